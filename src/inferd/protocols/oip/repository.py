"""Lines of the repository index, and what may be said when a model is loaded or unloaded. Pure.

Source: Triton's model repository extension.
"""

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from inferd.errors import InvalidRequest, Unsupported
from inferd.types.model import ModelReadyState, ModelStatus

FILE = "file:"
"""How the parameters begin that are files of a model."""


def index_line(status: ModelStatus) -> dict[str, str]:
    """One model in the index; one that was never loaded has neither version nor state."""
    if status.version == 0 and status.state is ModelReadyState.UNKNOWN:
        return {"name": status.name}
    line = {"name": status.name, "state": status.state.value, "reason": status.reason}
    return {"name": status.name, "version": str(status.version), **line} if status.version else line


def no_repository_name() -> Unsupported:
    """What is said where a repository is named, which Triton does not serve either."""
    return Unsupported("'repository_name' specification is not supported")


class LoadOverride(NamedTuple):
    """A configuration to load a model with, None for its own, and files in place of its own, by
    `<version>/<name>`."""

    config: Any = None
    files: Mapping[str, bytes] = MappingProxyType({})


def load_override(parameters: Mapping[str, Any]) -> LoadOverride:
    """What a load is to be done with; files are bytes, or text in base64. Raises InvalidRequest."""
    config = None
    files = {}
    for key, value in parameters.items():
        if key == "config":
            config = _config(value)
        elif key.startswith(FILE):
            files[key.removeprefix(FILE)] = _content(key, value)
        else:
            raise InvalidRequest(
                f"load parameter '{key}' is unknown; expected 'config', or 'file:<version>/<name>'"
            )
    if files and config is None:
        raise InvalidRequest(
            "load parameters 'file:...' need 'config': the files are a model by themselves"
        )
    return LoadOverride(config, files)


def unload_dependents(parameters: Mapping[str, Any]) -> bool:
    """Whether models that were loaded for an ensemble go with it; raises InvalidRequest."""
    for key, value in parameters.items():
        if key != "unload_dependents":
            raise InvalidRequest(
                f"unload parameter '{key}' is unknown; expected 'unload_dependents'"
            )
        if not isinstance(value, bool):
            raise InvalidRequest("unload parameter 'unload_dependents' must be true or false")
    return bool(parameters.get("unload_dependents", False))


def _config(text: Any) -> Any:
    if not isinstance(text, str):
        raise InvalidRequest("load parameter 'config' must be a string")
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"load parameter 'config' is not JSON: {error}") from error


def _content(key: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"load parameter '{key}' is not base64: {error}") from None
