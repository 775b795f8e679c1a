"""What `inferd serve` says when it has started: where it is, what it serves, how to ask it.

It prints what it is given and refuses to know the server: rows and the curl line come ready-made.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import click

from inferd import __version__
from inferd.cli.group import no_color, one_line
from inferd.cli.table import print_table


@dataclass(frozen=True, slots=True)
class BannerRow:
    """One model; `inputs` and `outputs` are short texts such as `x FP32[-1,4]`."""

    name: str
    version: str
    state: str
    inputs: str = ""
    outputs: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BannerHints:
    """A curl line that works as it stands (empty: none), and where docs and metrics are."""

    curl: str = ""
    grpc: str = ""
    """Host and port; empty without gRPC."""
    docs_path: str = "/docs"
    metrics: str = ""
    """Where the metrics are; empty where they are not served."""


def print_banner(
    url: str, rows: Sequence[BannerRow], hints: BannerHints, file: TextIO | None = None
) -> None:
    """Print to `file` (standard error, where the log is as well); no `url` is no HTTP."""
    out = file or sys.stderr
    title = one_line(f"inferd {__version__} at {url}" if url else f"inferd {__version__}")
    bold = out.isatty() and not no_color()
    click.echo(click.style(title, bold=True) if bold else title, file=out)
    if rows:
        _print_rows(rows, out)
    else:
        click.echo("no models yet; load one with: inferd models load NAME", file=out)
    if hints.curl:  # printed as it is: a terminal may wrap it, and it can still be copied
        click.echo(f"try it:   {hints.curl}", file=out)
    if hints.grpc:
        click.echo(f"grpc:     {hints.grpc}", file=out)
    if url:
        click.echo(f"docs:     {url}{hints.docs_path}", file=out)
    if hints.metrics:
        click.echo(f"metrics:  {hints.metrics}", file=out)


def _print_rows(rows: Sequence[BannerRow], out: TextIO) -> None:
    header = ["model", "version", "state", "inputs", "outputs"]
    cells = [[row.name, row.version, row.state, row.inputs, row.outputs] for row in rows]
    if any(row.reason for row in rows):
        header.append("reason")
        for line, row in zip(cells, rows, strict=True):
            line.append(row.reason)
    print_table(header, cells, out)
