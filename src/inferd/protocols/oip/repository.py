"""Lines of the repository index, and what may be said when a model is loaded or unloaded. Pure.

Source: Triton's model repository extension.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from inferd.errors import InvalidRequest, Unsupported
from inferd.types.model import ModelReadyState, ModelStatus


def index_line(status: ModelStatus) -> dict[str, str]:
    """One model in the index; one that was never loaded has neither version nor state."""
    if status.version == 0 and status.state is ModelReadyState.UNKNOWN:
        return {"name": status.name}
    line = {"name": status.name, "state": status.state.value, "reason": status.reason}
    return {"name": status.name, "version": str(status.version), **line} if status.version else line


def no_repository_name() -> Unsupported:
    """What is said where a repository is named, which Triton does not serve either."""
    return Unsupported("'repository_name' specification is not supported")


def load_config(parameters: Mapping[str, Any]) -> Any:
    """The configuration to load a model with, None for its own; raises InvalidRequest,
    Unsupported."""
    config = None
    for key, value in parameters.items():
        if key == "config":
            config = _config(value)
        elif key.startswith("file:"):
            raise Unsupported(f"load parameter '{key}': models from a request are not supported")
        else:
            raise InvalidRequest(f"load parameter '{key}' is unknown; expected 'config'")
    return config


def check_unload(parameters: Iterable[str]) -> None:
    """Refuse parameters of an unload that are unknown."""
    for key in parameters:
        if key != "unload_dependents":
            raise InvalidRequest(
                f"unload parameter '{key}' is unknown; expected 'unload_dependents'"
            )


def _config(text: Any) -> Any:
    if not isinstance(text, str):
        raise InvalidRequest("load parameter 'config' must be a string")
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"load parameter 'config' is not JSON: {error}") from error
