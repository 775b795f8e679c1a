"""From nested lists of JSON values to an array, strictly: no value changes its kind.
Pure.

A wrong value is looked for only once there is one, and named by its path: `argument 'x[2][0]'`.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from inferd.errors import InvalidRequest
from inferd.types.datatype import BF16, BYTES, DataType
from inferd.types.tensor import Array

MAX_DIMENSIONS = 64
"""As many as an array can have."""

_TYPES: dict[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "bytes": frozenset({str}),
}
_ONE = {"float": "a number", "int": "a whole number", "bool": "true or false", "bytes": "a text"}
_MANY = {
    "float": "numbers", "int": "whole numbers", "bool": "true and false", "bytes": "texts",
}  # fmt: skip
_JSON_NAMES: dict[type, str] = {
    dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number",
    float: "a number", type(None): "null", bytes: "a file",
}  # fmt: skip


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):
        return f"the number {value}"[:40]
    return _JSON_NAMES.get(type(value), type(value).__name__)


def wrong(path: str, expected: str, value: object) -> NoReturn:
    """Refuse a value: raises InvalidRequest with where it is, what was expected and what came."""
    raise InvalidRequest(f"argument '{path}': expected {expected}, got {kind_of(value)}")


def depth_of(value: object) -> int:
    """How many lists stand round the first value."""
    depth = 0
    while type(value) is list:
        depth += 1
        if not value:
            break
        value = value[0]
    return depth


def read_array(name: str, datatype: DataType, shape: Sequence[int] | None, value: object) -> Array:
    """`value` as an array of `shape` (-1 is any size, None any shape at all).

    BF16 comes as uint16 bit patterns, BYTES as an object array. Raises InvalidRequest.
    """
    depth = depth_of(value) if shape is None else len(shape)
    if depth > MAX_DIMENSIONS:
        wrong(name, f"at most {MAX_DIMENSIONS} lists in one another", value)
    sizes: list[int] = []
    flat: list[Any] = [value]
    for _ in range(depth):
        if not all(type(row) is list for row in flat):
            _explain(name, datatype, shape, value)
        lengths = set(map(len, flat))
        if len(lengths) > 1:
            _explain(name, datatype, shape, value)
        sizes.append(lengths.pop() if lengths else 0)
        flat = flat[0] if len(flat) == 1 else list(chain.from_iterable(flat))
    if shape is not None:
        for want, size in zip(shape, sizes, strict=True):
            if want != size and want >= 0:
                _explain(name, datatype, shape, value)
    if not _TYPES[datatype.kind].issuperset(map(type, flat)):
        _explain(name, datatype, shape, value)
    return _array(name, datatype, flat).reshape(sizes)


def _array(name: str, datatype: DataType, flat: list[Any]) -> Array:
    if datatype is BYTES:
        array: Array = np.empty(len(flat), object)
        array[:] = [text.encode() for text in flat]
        return array
    if datatype is BF16:
        return _bf16(np.array(flat, np.float32))
    try:
        return np.array(flat, datatype.dtype)
    except OverflowError:
        limits = np.iinfo(datatype.dtype.name)
        raise InvalidRequest(
            f"argument '{name}': expected whole numbers from {limits.min} to {limits.max} "
            f"({datatype.name})"
        ) from None


def _bf16(values: Array) -> Array:
    """Rounded to the nearest, ties to even; not a number stays so."""
    bits = values.view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bf16(array: Array) -> Array:
    """The numbers of BF16 bit patterns, as float32."""
    return (array.astype(np.uint32) << 16).view(np.float32)


# -- what is wrong ---------------------------------------------------------------------------------


def _explain(name: str, datatype: DataType, shape: Sequence[int] | None, value: object) -> NoReturn:
    """Raise InvalidRequest for the first thing that is wrong."""
    if shape is None:
        shape = (-1,) * depth_of(value)
    _walk(name, datatype, shape, value, [None] * len(shape))
    raise InvalidRequest(f"argument '{name}': expected {describe(datatype, shape)}")


def _walk(
    path: str, datatype: DataType, shape: Sequence[int], value: object, seen: list[int | None]
) -> None:
    if not shape:
        if type(value) not in _TYPES[datatype.kind]:
            wrong(path, f"{_ONE[datatype.kind]} ({datatype.name})", value)
        return
    if type(value) is not list:
        wrong(path, describe(datatype, shape), value)
    level = len(seen) - len(shape)
    size = shape[0] if shape[0] >= 0 else seen[level]
    if size is not None and len(value) != size:
        why = "" if shape[0] >= 0 else " as in the lists before it"
        raise InvalidRequest(
            f"argument '{path}': expected {describe(datatype, (size, *shape[1:]))}{why}, got a "
            f"list of {len(value)}"
        )
    seen[level] = len(value)
    for index, entry in enumerate(value):
        _walk(f"{path}[{index}]", datatype, shape[1:], entry, seen)


def describe(datatype: DataType, shape: Sequence[int]) -> str:
    """What belongs there, in words: `a list of 4 numbers (FP32)`."""
    if not shape:
        return f"{_ONE[datatype.kind]} ({datatype.name})"
    words = "".join(
        f"{'a list' if i == 0 else 'lists'} of {f'{size} ' if size >= 0 else ''}"
        for i, size in enumerate(shape)
    )
    return f"{words}{_MANY[datatype.kind]} ({datatype.name})"
