"""One way to print a table: rich on a terminal, plain aligned text in a pipe, JSON when asked for.

It refuses to know what is in a table; cells are text, and never markup.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from inferd.cli.group import one_line

format_option = click.option(
    "--format",
    "format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="For people or for machines.",
)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None
) -> None:
    """Print rows under a header; line breaks and control characters in cells become spaces."""
    out = file or sys.stdout
    cells = [[one_line(cell) for cell in row] for row in rows]
    if out.isatty():
        _print_rich(header, cells, out)
    else:
        _print_plain(header, cells, out)


def print_json(value: object) -> None:
    """Print plain data as JSON to standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def _print_plain(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    lines = [[title.upper() for title in header], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(text.rstrip(), file=out)


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Any = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    Console(file=out).print(table)


_STYLES = {
    "READY": "green",
    "LOADING": "yellow",
    "UNLOADING": "yellow",
    "UNAVAILABLE": "red",
    "default": "dim",
}
