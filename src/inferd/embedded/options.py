"""What a caller in Python says of a server, as a ServerConfig; environment and files have no say.

Pure, but for where the source of a class lies.
"""

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from inferd.config.load import option_hints
from inferd.config.server import ServerConfig
from inferd.config.strict import decode_struct, suggest
from inferd.errors import ConfigError

Servable = str | os.PathLike[str] | type
"""A path that `inferd serve` takes, or the class of a model."""

_OF_THE_NETWORK = ("host", "http", "grpc", "metrics", "access_log", "shared_memory")
_OF_THE_LOG = "log_"


def server_config(
    paths: Iterable[Servable], config: ServerConfig | None, options: Mapping[str, Any]
) -> ServerConfig:
    """The configuration, with `paths` behind its own and `options` in place of its own; raises
    ConfigError."""
    values: dict[str, Any] = msgspec.to_builtins(config) if config is not None else {}
    engine: dict[str, Any] = dict(values.get("engine", {}))
    known = {name for name in option_hints() if not _belongs_elsewhere(name)} | {"engine"}
    for name, value in options.items():
        _check_belongs(name)
        if name not in known:
            raise ConfigError(f"unknown option, {suggest(name, known)}", field=name)
        if name == "engine":
            engine |= value
        elif name in ServerConfig.__struct_fields__:
            values[name] = _plain(value)
        else:
            engine[name] = value
    if isinstance(values.get("load_model"), str):
        values["load_model"] = (values["load_model"],)
    values["paths"] = [*values.get("paths", ()), *(path_of(path) for path in paths)]
    values["engine"] = engine
    if not values["paths"]:
        raise ConfigError("nothing to serve; try: inferd.Server('model.onnx')", field="paths")
    return decode_struct(values, ServerConfig, file="server")


def path_of(path: Servable) -> str:
    """As the command line has it; a class is where it is written."""
    if isinstance(path, str | os.PathLike):
        return os.fspath(path)
    if not isinstance(path, type):
        raise ConfigError(f"expected a path or a class, got {path!r}", field="paths")
    try:
        return f"{inspect.getfile(path)}:{path.__qualname__}"
    except (TypeError, OSError):
        raise ConfigError(
            f"{path.__name__} is not written in a file, from which its worker could load it; save "
            "it in one"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _belongs_elsewhere(name: str) -> bool:
    return name.startswith(_OF_THE_NETWORK) or name.startswith(_OF_THE_LOG)


def _check_belongs(name: str) -> None:
    if name.startswith(_OF_THE_NETWORK):
        raise ConfigError(
            "a server within a process has no sockets; leave it out, or run: inferd serve",
            field=name,
        )
    if name.startswith(_OF_THE_LOG):
        raise ConfigError(
            "the log is the application's: set up logging.getLogger('inferd') instead", field=name
        )
