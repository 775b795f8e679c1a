"""Which file is a model of which framework: by its suffix, and by how it begins, since a suffix
such as .json says little. It refuses to load a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. `names` are those that it has in a model repository, the usual one first.

    `is_sign` looks at the first HEAD_BYTES.
    """

    backend: str
    suffix: str
    names: tuple[str, ...]
    is_sign: Callable[[bytes], bool]


FORMATS = (
    # A protocol buffer begins with nothing of its own.
    Format("onnxruntime", ".onnx", ("model.onnx",), lambda head: True),
    Format("xgboost", ".json", ("model.json", "xgboost.json"), lambda head: b'"learner"' in head),
    Format("xgboost", ".ubj", ("model.ubj", "xgboost.ubj"), lambda head: b"learner" in head),
    Format("lightgbm", ".txt", ("model.txt",), lambda head: head.startswith(b"tree\n")),
    Format("catboost", ".cbm", ("model.cbm",), lambda head: head.startswith(b"CBM1")),
)
BACKENDS = tuple(dict.fromkeys(kind.backend for kind in FORMATS))
SUFFIXES = tuple(dict.fromkeys(kind.suffix for kind in FORMATS))

PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
}
"""Platform, as a configuration may name it in place of a backend, to backend."""


def recognise(path: Path) -> Format | None:
    """What a file is; None for one that is no model, or cannot be read."""
    candidates = of_suffix(path)
    if not candidates or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    return next((kind for kind in candidates if kind.is_sign(head)), None)


def of_suffix(path: Path) -> list[Format]:
    """What a file could be by its name."""
    return [kind for kind in FORMATS if kind.suffix == path.suffix]


def filenames(backend: str) -> tuple[str, ...]:
    """Names of a backend's files in a model repository, the usual one first."""
    return tuple(name for kind in FORMATS if kind.backend == backend for name in kind.names)
