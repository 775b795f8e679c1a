"""Datatypes under the names and numbers that Triton has for them, and BYTES tensors as bytes."""

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from inferd.types.datatype import BF16, BYTES, DATATYPES, DataType
from inferd.types.tensor import Array
from inferd.workers.triton.error import TritonModelException

_NUMBERED: Final = (
    np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64,
    np.float16, np.float32, np.float64, np.object_,
)  # fmt: skip
"""In the order of TRITONSERVER_DataType, from 1 on."""

TRITON_STRING_TO_NUMPY: Final[dict[str, Any]] = {
    kind.config_name: bool if kind.name == "BOOL" else kind.dtype.type
    for kind in DATATYPES.values()
    if kind is not BF16
}

_OF_DTYPE: Final = {kind.dtype: kind for kind in DATATYPES.values() if kind is not BF16}


def kind_of(array: Array) -> DataType:
    """The datatype of an array; raises TritonModelException for one that Triton does not have."""
    kind = _OF_DTYPE.get(array.dtype)
    if kind is not None:
        return kind
    if array.dtype.kind in "SU":
        return BYTES
    kind = _OF_DTYPE.get(array.dtype.newbyteorder("="))
    if kind is None:
        raise TritonModelException(f"NumPy dtype '{array.dtype}' is not supported.")
    return kind


def texts(array: Array) -> Array:
    """An array of `bytes` objects, of one that holds texts in any way."""
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype.kind == "S":
        return array.astype(object)
    values = array.ravel().tolist()
    if all(type(value) is bytes for value in values):
        return array
    whole: Array = np.empty(len(values), object)
    whole[:] = [v if isinstance(v, bytes) else str(v).encode() for v in values]
    return whole.reshape(array.shape)


def triton_to_numpy_type(data_type: int) -> Any:
    """The numpy type of a TRITONSERVER_DataType number; None for one that numpy has not."""
    return _NUMBERED[data_type - 1] if 0 < data_type <= len(_NUMBERED) else None


def numpy_to_triton_type(data_type: Any) -> int | None:
    """The TRITONSERVER_DataType number of a numpy type; None for one that Triton has not."""
    if data_type == np.bytes_:
        return len(_NUMBERED)
    return next((n for n, t in enumerate(_NUMBERED, 1) if data_type == t), None)


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """The numpy type of a name such as `TYPE_FP32`."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor: Array) -> Any:
    """The elements in C order, each behind its length in four bytes; () of an empty tensor, None of
    one that holds no texts."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype != np.object_ and input_tensor.dtype.type is not np.bytes_:
        return None
    return b"".join(
        part
        for text in texts(input_tensor).ravel().tolist()
        for part in (struct.pack("<I", len(text)), text)
    )


def deserialize_bytes_tensor(encoded_tensor: Any) -> Array:
    """The one-dimensional array of what `serialize_byte_tensor` wrote."""
    return np.array([*_elements(memoryview(encoded_tensor).cast("B"))], dtype=np.object_)


def _elements(data: memoryview) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        yield bytes(data[offset : offset + length])
        offset += length
