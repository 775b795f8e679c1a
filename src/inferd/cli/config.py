"""`inferd config`: see what the server would be told, and who told it; and what a model's
configuration is, once the model has completed it.
"""

import asyncio
import json
from typing import Any

import click

from inferd.cli.group import Group
from inferd.cli.options import ServerCommand, load_from, server_options
from inferd.cli.table import format_option, print_json, print_table
from inferd.errors import InferdError


@click.group(cls=Group)
def config() -> None:
    """Look at the server's configuration, or at a model's."""


@config.command(cls=ServerCommand)
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


@config.command()
@click.argument("path")
@click.option(
    "--format",
    type=click.Choice(("pbtxt", "yaml", "json")),
    default="pbtxt",
    show_default=True,
    help="config.pbtxt as Triton reads it, config.yaml, or what /v2/models/NAME/config answers.",
)
@click.option("--trust", is_flag=True, help="Read models that may run code when they are read.")
def model(path: str, format: str, trust: bool) -> None:
    """Load the model at PATH and print its configuration with what it completes."""
    document = asyncio.run(_completed(path, trust))
    if format == "json":
        print_json(document)
    elif format == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
    else:
        from inferd.config.pbtxt import format_pbtxt

        click.echo(format_pbtxt(document), nl=False)


async def _completed(path: str, trust: bool) -> dict[str, Any]:
    from pathlib import Path

    from inferd.observability.logging import configure_logging
    from inferd.observability.machine import available_cores
    from inferd.protocols.oip.model_config import model_config
    from inferd.serving.model_manager import ModelManager

    configure_logging("text", "warning")
    manager = ModelManager((Path(path),), available_cores(), 1, trust=trust)
    try:
        sources = await manager.scan()
        if len(sources) != 1:
            names = ", ".join(sources) or "none"
            raise InferdError(f"{path} is not one model; there are: {names}")
        (source,) = sources.values()
        await manager.apply(source)
        return model_config(manager.predictive(source.name))
    finally:
        await manager.close()


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
