"""What the annotation of an array says of its dtype."""

from typing import Any, TypeVar

import numpy as np

from inferd.types.datatype import BYTES, DATATYPES, DataType

_BY_DTYPE = {t.dtype: t for t in DATATYPES.values() if t.name not in ("BF16", "BYTES")}

_ABSTRACT = (
    np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact,
    np.floating, np.complexfloating, np.flexible, np.character,
)  # fmt: skip


def is_array(annotation: Any) -> bool:
    """Whether it is np.ndarray, with or without a dtype."""
    return getattr(annotation, "__origin__", annotation) is np.ndarray


def numpy_scalar(annotation: Any) -> type[np.generic]:
    """The scalar type of an array's annotation; float32 where it says none. Raises TypeError."""
    arguments: tuple[Any, ...] = getattr(annotation, "__args__", ())
    dtype: Any = arguments[1] if len(arguments) > 1 else Any
    inner: tuple[Any, ...] = getattr(dtype, "__args__", (Any,))
    scalar = inner[0]
    if scalar is Any or isinstance(scalar, TypeVar):
        return np.float32
    if not isinstance(scalar, type) or scalar in _ABSTRACT:
        raise TypeError(f"an array needs one dtype such as np.float32, not {scalar}")
    return scalar


def datatype_of(scalar: type[np.generic]) -> DataType:
    """What a scalar type of numpy is on the wire; texts, bytes and objects are BYTES."""
    if scalar in (np.str_, np.bytes_, np.object_):
        return BYTES
    found = _BY_DTYPE.get(np.dtype(scalar))
    if found is None:
        known = ", ".join(str(dtype) for dtype in _BY_DTYPE)
        raise TypeError(f"there are no tensors of {scalar.__name__}; use one of {known}, str")
    return found
