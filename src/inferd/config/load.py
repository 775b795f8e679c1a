"""The one reader of configuration files, environment and command line for the server.

It holds which of the three wins (command line, then INFERD_<FIELD>, then the file, then the
default) and remembers for each field where its value came from. It refuses to know what a field
means: names, types and defaults are those of ServerConfig and EngineConfig.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from inferd.config.engine import EngineConfig
from inferd.config.server import ServerConfig
from inferd.config.strict import decode_struct, read_document, suggest
from inferd.errors import ConfigError

PREFIX: Final = "INFERD_"
FILE_VARIABLE: Final = "INFERD_CONFIG"

# Variables of ours that are no field: the second is what `inferd models` reads.
_NOT_FIELDS: Final = frozenset({FILE_VARIABLE, "INFERD_URL"})

# Kubernetes sets these in every pod beside a Service called `inferd` or `inferd-...`; the last one,
# INFERD_HTTP_PORT=tcp://10.0.0.1:8000, can even have the name of a field.
_SERVICE_LINK: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT\w*)=.*|\w+_PORT_\d+_(TCP|UDP|SCTP)\w*=.*|\w+_PORT=(tcp|udp|sctp)://.*"
)

# Between paths, but not before the class in `app.py:Class`.
_PATH_END: Final = re.compile(
    rf"{re.escape(os.pathsep)}(?!(?<=\.py:)[A-Za-z_]\w*(?:{re.escape(os.pathsep)}|$))"
)

_PATH_FIELDS: Final = frozenset({"paths"})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration, and for each field the words for where its value came from."""

    config: ServerConfig
    origins: dict[str, str]

    def values(self) -> dict[str, Any]:
        """Every option's value as plain data; one of an engine that nobody set is its default."""
        values: dict[str, Any] = msgspec.to_builtins(self.config)
        engine = values.pop("engine")
        unset = msgspec.to_builtins(EngineConfig())
        return {name: values.get(name, engine.get(name, unset.get(name))) for name in self.origins}


class _Given(NamedTuple):
    field: str
    value: object
    origin: str


def load_server_config(
    argv: Mapping[str, object], config_file: str | None, environ: Mapping[str, str]
) -> LoadedConfig:
    """Merge what was said; `argv` holds only the options that were given, by field name."""
    file = config_file or environ.get(FILE_VARIABLE)
    hints = option_hints()
    values: dict[str, object] = {}
    engine: dict[str, object] = {}
    origins = dict.fromkeys(hints, "default")
    for layer in (_from_file(file, hints), _from_environ(environ, hints), _from_argv(argv, hints)):
        for field, value, origin in layer:
            (values if field in ServerConfig.__struct_fields__ else engine)[field] = value
            origins[field] = origin
    values["engine"] = engine
    return LoadedConfig(decode_struct(values, ServerConfig, file="server"), origins)


def option_hints() -> dict[str, Any]:
    """Every option and its type: the fields of ServerConfig, and those of the language models'
    EngineConfig for which it has no field of its own."""
    server = get_type_hints(ServerConfig, include_extras=True)
    del server["engine"]
    return {**server, **{n: h for n, h in _engine_hints().items() if n not in server}}


def option_default(name: str) -> Any:
    """What an option is when nobody says."""
    kind = ServerConfig if name in ServerConfig.__struct_fields__ else EngineConfig
    return getattr(kind(), name)


def _engine_hints() -> dict[str, Any]:
    return get_type_hints(EngineConfig, include_extras=True)


def option_name(field: str, value: object = None) -> str:
    """How a field is spelled on the command line."""
    if field == "paths":
        return "PATH"
    return f"--{'no-' if value is False else ''}{field.replace('_', '-')}"


def _from_file(file: str | None, hints: dict[str, Any]) -> Iterator[_Given]:
    if not file:
        return
    document = read_document(file)
    if document is None:  # an empty file says nothing
        return
    if not isinstance(document, dict):
        raise ConfigError("must be a mapping from fields to values", file=file)
    seen: set[str] = set()
    for key, value in document.items():
        field = str(key).replace("-", "_")
        if field not in hints:
            raise ConfigError(f"unknown field, {suggest(field, hints)}", file=file, field=str(key))
        if field in seen:
            raise ConfigError("is there twice", file=file, field=field)
        seen.add(field)
        yield _Given(field, _convert(value, hints[field], file, field), f"file {file}")


def _from_environ(environ: Mapping[str, str], hints: dict[str, Any]) -> Iterator[_Given]:
    names = {f"{PREFIX}{field.upper()}": field for field in hints}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in _NOT_FIELDS:
            continue
        if _SERVICE_LINK.fullmatch(f"{name}={text}"):
            continue
        origin = f"environment {name}"
        if name not in names:
            raise ConfigError(f"unknown variable, {suggest(name, names)}", file=origin)
        if text == "":  # what a template leaves when it has nothing to say
            continue
        field = names[name]
        value = _split(text, field) if _is_tuple(hints[field]) else text
        yield _Given(field, _convert(value, hints[field], origin, field, strict=False), origin)


def _from_argv(argv: Mapping[str, object], hints: dict[str, Any]) -> Iterator[_Given]:
    for field, value in argv.items():
        origin = f"command line {option_name(field, value)}"
        if field not in hints:
            raise ConfigError(f"unknown option, {suggest(field, hints)}", file=origin)
        yield _Given(field, _convert(value, hints[field], origin, field), origin)


def _convert(value: object, hint: Any, file: str, field: str, *, strict: bool = True) -> object:
    converted = decode_struct(value, hint, file=file, field=field, strict=strict)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigError(f"expected a finite number, got {converted}", file=file, field=field)
    return converted


def _split(text: str, field: str) -> tuple[str, ...]:
    parts = _PATH_END.split(text) if field in _PATH_FIELDS else text.split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _is_tuple(hint: Any) -> bool:
    arguments = get_args(hint)
    return get_origin(hint) is tuple or (bool(arguments) and get_origin(arguments[0]) is tuple)
