"""inferd: one inference server for every model.

What an author of models imports is here, and `Server`, which runs models in one's own process. Each
is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferd.embedded.server import Server
    from inferd.errors import InvalidRequest
    from inferd.sdk.annotations import Field, Shape
    from inferd.sdk.depends import depends
    from inferd.sdk.model import Model
    from inferd.sdk.session import Session

__version__ = "0.1.0"

__all__ = [
    "Field",
    "InvalidRequest",
    "Model",
    "Server",
    "Session",
    "Shape",
    "__version__",
    "depends",
]

_HOMES = {
    "Field": "inferd.sdk.annotations",
    "InvalidRequest": "inferd.errors",
    "Model": "inferd.sdk.model",
    "Server": "inferd.embedded.server",
    "Session": "inferd.sdk.session",
    "Shape": "inferd.sdk.annotations",
    "depends": "inferd.sdk.depends",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'inferd' has no attribute '{name}'")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value
