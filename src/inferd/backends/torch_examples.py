"""The tensors that a module was traced with: TorchScript keeps them in its file, and no API of
torch reads them back.

They lie there as a pickle. This reads it with names for nothing but tensors, and makes no tensor:
a name that is not in its table ends the reading, so no code of the file ever runs.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from inferd.backends.torch_tensors import datatype_of
from inferd.errors import Unsupported
from inferd.types.tensor import TensorSpec

MOST_BYTES = 1 << 20
"""What describes tensors takes some hundred bytes each; more is none, however it is packed."""

_STORAGES = {
    "BoolStorage": torch.bool, "ByteStorage": torch.uint8, "CharStorage": torch.int8,
    "ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64,
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64,
}  # fmt: skip


class _Example:
    """What stands for a tensor: its dtype and shape."""

    def __init__(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape


def _rebuilt(dtype: torch.dtype, offset: int, size: tuple[int, ...], *_: object) -> _Example:
    return _Example(dtype, tuple(int(dim) for dim in size))


def _untagged(value: object, tag: str) -> object:
    return value


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch.jit._pickle", "restore_type_tag"): _untagged,
    ("collections", "OrderedDict"): dict,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return _NAMES[module, name]

    def persistent_load(self, key: Any) -> Any:
        """A storage, as ('storage', dtype, file, device, size): its dtype."""
        return key[1]


def traced_inputs(path: Path, names: tuple[str, ...]) -> tuple[TensorSpec, ...] | None:
    """What `forward` was traced with; None for a module that was not, or not with tensors alone."""
    with zipfile.ZipFile(path) as archive:
        found = [n for n in archive.namelist() if n.partition("/")[2] == "traced_inputs.pkl"]
        data = archive.open(found[0]).read(MOST_BYTES) if found else b""
    try:
        examples = _Reader(io.BytesIO(data)).load()["forward"]
        if len(examples) != len(names) or not all(isinstance(e, _Example) for e in examples):
            return None
        return tuple(
            TensorSpec(name, datatype_of(name, example.dtype), example.shape)
            for name, example in zip(names, examples, strict=True)
        )
    except Unsupported:
        raise
    except Exception:  # a pickle that is no list of tensors may fail in any way
        return None
