"""The command line of ServerConfig, generated from its fields: `http_port` is `--http-port`. The
options of language models are EngineConfig's, in the same way.

Names, types, defaults and help are those of the two; which values are right is said by it as well
(`config/load.py`), so that a wrong port is the same error from wherever it came.
"""

import os
from collections.abc import Callable
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import click
import msgspec
from click.core import ParameterSource

from inferd.cli.triton_options import TRITON_NAMES, UnusableOption, translate
from inferd.config.load import (
    LoadedConfig,
    load_server_config,
    option_default,
    option_hints,
    option_name,
)

Command = TypeVar("Command", bound=Callable[..., Any])

_CONFIG_FILE: Final = "config_file"
_IGNORED: Final = "inferd.ignored"


def server_options(command: Command) -> Command:
    """Give a ServerCommand `PATH...`, `--config` and an option for each field that there is."""
    for name, hint in reversed(option_hints().items()):
        if name != "paths":
            command = _option(name, hint, option_default(name))(command)
    command = click.option(
        "--config",
        _CONFIG_FILE,
        metavar="FILE",
        help="Read fields from this .yaml, .json or .toml file (or INFERD_CONFIG).",
    )(command)
    return click.argument("paths", nargs=-1, metavar="PATH...")(command)


class ServerCommand(click.Command):
    """A command with `server_options`, which takes tritonserver's as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            translation = translate(args)
        except UnusableOption as error:
            raise click.UsageError(str(error), ctx) from None
        ctx.meta[_IGNORED] = translation.ignored
        try:
            return super().parse_args(ctx, translation.arguments)
        except click.NoSuchOption as error:
            ours = [name for param in self.params for name in (*param.opts, *param.secondary_opts)]
            names = [*ours, *(f"--{name}" for name in TRITON_NAMES)]
            near = get_close_matches(error.option_name, names)
            raise click.NoSuchOption(error.option_name, possibilities=near, ctx=ctx) from None


def ignored_options(context: click.Context) -> list[str]:
    """What was said in vain: `--option: why`."""
    ignored: list[str] = context.meta[_IGNORED]
    return ignored


def load_from(context: click.Context) -> LoadedConfig:
    """The configuration for a command with `server_options`; what was not typed is not passed."""
    options = option_hints()
    given = {
        name: value
        for name, value in context.params.items()
        if name in options and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return load_server_config(given, context.params[_CONFIG_FILE], os.environ)


def _option(name: str, hint: Any, default: object) -> Callable[[Command], Command]:
    hint, metas = (get_args(hint)[0], get_args(hint)[1:]) if _annotated(hint) else (hint, ())
    said = (meta.description for meta in metas if isinstance(meta, msgspec.Meta))
    text = next((description for description in said if description), None)
    spelled = option_name(name)
    if hint is bool:
        spelled = f"{spelled}/{option_name(name, False)}"
    multiple = get_origin(hint) is tuple
    return click.option(
        spelled,
        name,
        type=_click_type(get_args(hint)[0] if multiple else hint),
        multiple=multiple,
        default=default,
        show_default=True,
        help=text,
    )


def _click_type(hint: Any) -> "click.ParamType[Any]":
    if _annotated(hint):
        hint = get_args(hint)[0]
    if get_origin(hint) in (UnionType, Union):  # `str | None`: what can be typed is the first
        return _click_type(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    return _TYPES[hint]


def _annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated


_TYPES: Final["dict[Any, click.ParamType[Any]]"] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}
