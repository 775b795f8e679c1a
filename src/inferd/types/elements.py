"""The elements of a tensor as they lie in bytes: little-endian, row-major, and those of BYTES with
their lengths.

Source: Triton's binary tensor data extension.
"""

import struct

import numpy as np

from inferd.types.datatype import BYTES
from inferd.types.tensor import Array, Tensor


def encode_binary(tensor: Tensor) -> bytes | memoryview:
    """The elements; a view of the array where that has them in order."""
    if tensor.datatype is BYTES:
        return _encode_bytes(tensor.array)
    array = np.ascontiguousarray(tensor.array)
    return array.reshape(-1).view(np.uint8).data


def texts_of(array: Array) -> list[bytes]:
    """The elements of a tensor of BYTES; what a model has given as text is its UTF-8."""
    return [v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist()]


def _encode_bytes(array: Array) -> bytes:
    parts = []
    for data in texts_of(array):
        parts.append(struct.pack("<I", len(data)))
        parts.append(data)
    return b"".join(parts)
