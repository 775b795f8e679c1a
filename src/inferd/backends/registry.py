"""Which backends there are: a literal table, then entry points in the same format.

A backend whose framework is not installed is one clear error that names the extra to install.
"""

import importlib
from importlib.metadata import entry_points

from inferd.backends.base import Backend
from inferd.errors import ConfigError

BACKENDS = {
    "onnxruntime": "inferd.backends.onnxruntime:OnnxRuntimeBackend",
}
"""Name of a backend to `module:class`."""

EXTRAS = {"onnxruntime": "onnx"}
ENTRY_POINT_GROUP = "inferd.backends"


def create_backend(name: str) -> Backend:
    """The backend of that name; raises ConfigError when it is unknown or not installed."""
    target = BACKENDS.get(name)
    if target is None:
        found = {e.name: e.value for e in entry_points(group=ENTRY_POINT_GROUP)}
        target = found.get(name)
        if target is None:
            known = ", ".join(sorted({*BACKENDS, *found}))
            raise ConfigError(f"unknown backend '{name}'; known are: {known}", field="backend")
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        extra = EXTRAS.get(name, name)
        raise ConfigError(
            f"backend '{name}' needs a package that is not installed ({error}); "
            f"install it with: pip install 'inferd[{extra}]'"
        ) from error
    backend: Backend = getattr(module, attribute)()
    return backend
