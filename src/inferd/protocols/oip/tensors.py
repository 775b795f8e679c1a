"""Tensors as they lie in bytes: little-endian, row-major, BYTES elements with their lengths. Pure.

Sources: Open Inference Protocol and Triton's binary tensor data extension; messages use the phrases
that Triton's clients and tests look for.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from inferd.errors import InvalidRequest
from inferd.types.datatype import BYTES, DATATYPES, DataType
from inferd.types.tensor import Array, Tensor

MAX_ELEMENTS = 2**63 - 1
MAX_DIMENSIONS = 64


def datatype_named(name: str, datatype: str) -> DataType:
    """The datatype of an input by its name."""
    found = DATATYPES.get(datatype)
    if found is None:
        raise InvalidRequest(
            f"input '{name}': unknown datatype '{datatype}'; one of {', '.join(DATATYPES)}"
        )
    return found


def element_count(name: str, shape: Sequence[int], datatype: DataType) -> int:
    """Elements of a shape that an array can have; a 0 does not excuse the other dimensions."""
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(
            f"input '{name}': shape has {len(shape)} dimensions, at most {MAX_DIMENSIONS}"
        )
    count = extent = 1
    for dim in shape:
        if dim < 0:
            raise InvalidRequest(
                f"input '{name}': shape must hold non-negative integers, got {list(shape)}"
            )
        count *= dim
        extent *= dim or 1
    if extent > MAX_ELEMENTS:
        raise InvalidRequest(
            f"input '{name}': shape {list(shape)} causes total element count to exceed maximum "
            f"size of {MAX_ELEMENTS}"
        )
    if extent * (datatype.size_bytes or 8) > MAX_ELEMENTS:
        raise InvalidRequest(f"byte size overflow for input '{name}' of shape {list(shape)}")
    return count


def binary_tensor(
    name: str, datatype_name: str, shape: Sequence[int], body: memoryview, offset: int, size: int,
    model: str,
) -> Tensor:  # fmt: skip
    """An input whose elements are `size` bytes of a body."""
    datatype = datatype_named(name, datatype_name)
    count = element_count(name, shape, datatype)
    array = binary_array(name, datatype, shape, count, body, offset, size, model)
    return Tensor(name, datatype, array)


def binary_array(
    name: str, datatype: DataType, shape: Sequence[int], count: int,
    body: bytes | memoryview, offset: int, size: int, model: str,
) -> Array:  # fmt: skip
    """An input of `count` elements that are `size` bytes of a body."""
    if datatype is BYTES:
        return decode_bytes(name, memoryview(body)[offset : offset + size], count).reshape(shape)
    expected = count * datatype.size_bytes
    if size != expected:
        raise InvalidRequest(
            f"input byte size mismatch for input '{name}' for model '{model}'. "
            f"Expected {expected}, got {size}"
        )
    return from_buffer(body, datatype, shape, offset)


def from_buffer(
    body: bytes | memoryview, datatype: DataType, shape: Sequence[int], offset: int
) -> Array:
    """Elements of a body, without a copy where they lie aligned."""
    array: Array = np.ndarray(shape, datatype.dtype, body, offset)
    if not array.flags.aligned:
        array = array.copy()
    if datatype.kind == "bool":
        array = array.view(np.uint8).astype(np.bool_)  # any byte but 0 is true
    return array


def from_values(name: str, field: str, values: list[Any], datatype: DataType) -> Array:
    """Python values of the right types, given in `field`, as an array."""
    if datatype is BYTES:
        return _object_array(values)
    try:
        return np.array(values, dtype=datatype.dtype)
    except OverflowError as error:
        raise InvalidRequest(
            f"input '{name}': '{field}' has values outside of {datatype.name}'s range: {error}"
        ) from error


def decode_bytes(name: str, data: memoryview, count: int) -> Array:
    """BYTES elements: each a little-endian uint32 length and that many bytes."""
    elements: list[bytes] = []
    offset, end = 0, len(data)
    expecting = f"Expecting {count} string elements for inference input '{name}'."
    while offset < end:
        if offset + 4 > end:
            raise InvalidRequest(
                f"incomplete string length indicator for inference input '{name}', expecting 4 "
                f"bytes but only {end - offset} bytes available. {expecting}"
            )
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if offset + length > end:
            raise InvalidRequest(
                f"incomplete string data for inference input '{name}', expecting string of length "
                f"{length} but only {end - offset} bytes available. {expecting}"
            )
        elements.append(bytes(data[offset : offset + length]))
        offset += length
    if len(elements) != count:
        raise InvalidRequest(
            f"unexpected number of string elements {len(elements)} for inference input '{name}', "
            f"expecting {count}"
        )
    return _object_array(elements)


def _object_array(elements: list[bytes]) -> Array:
    array: Array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array
