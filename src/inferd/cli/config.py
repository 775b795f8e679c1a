"""`inferd config`: see what the server would be told, and who told it."""

import json

import click

from inferd.cli.group import Group
from inferd.cli.options import load_from, server_options
from inferd.cli.table import format_option, print_json, print_table


@click.group(cls=Group)
def config() -> None:
    """Look at the server's configuration."""


@config.command()
@server_options
@format_option
@click.pass_context
def show(context: click.Context, /, format: str, **_: object) -> None:  # the rest: `load_from`
    """Print every field, its value and where the value came from.

    Takes the options of `inferd serve`, reads the same file and environment, and starts nothing.
    """
    loaded = load_from(context)
    values = loaded.values()
    if format == "json":
        origins = loaded.origins
        print_json({k: {"value": v, "origin": origins[k]} for k, v in values.items()})
        return
    rows = [(name, _text(value), loaded.origins[name]) for name, value in values.items()]
    print_table(("field", "value", "origin"), rows)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
