"""Tensors of other frameworks, by DLPack, without a copy. numpy knows the protocol but for
bfloat16, and takes no bare capsules: so what a capsule holds is read here.
"""

import ctypes
from typing import Any, Final

import numpy as np

from inferd.types.datatype import BF16, DATATYPES, DataType
from inferd.types.tensor import Array
from inferd.workers.triton.error import TritonModelException

CPU: Final = 1
_CPU_LIKE: Final = (1, 3)
"""kDLCPU, and kDLCUDAHost: memory that the processor reads."""

_NAME: Final = b"dltensor"
_USED: Final = b"used_dltensor"
_BFLOAT: Final = 4
_CODES: Final = {"int": 0, "uint": 1, "float": 2, "bool": 6}


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _DLManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DLManagedTensor))
_DLManagedTensor._fields_ = (
    ("tensor", _DLTensor),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", _Deleter),
)

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


def to_capsule(array: Array, kind: DataType) -> Any:
    """A capsule of an array, which it views where the array may be written to."""
    if kind.kind == "bytes":
        raise TritonModelException("TYPE_BYTES tensors cannot be converted to DLPack.")
    if not array.flags.writeable:
        array = array.copy()
    capsule = array.__dlpack__()
    if kind is BF16:  # numpy has it as uint16
        _managed(capsule).tensor.code = _BFLOAT
    return capsule


def from_dlpack(value: Any) -> tuple[Array, DataType]:
    """The array of a capsule, or of anything that gives one; raises TritonModelException."""
    if hasattr(value, "__dlpack_device__"):
        device, _ = value.__dlpack_device__()
        if device not in _CPU_LIKE:
            value = _on_cpu(value)
        value = value.__dlpack__()
    if not _is_valid(value, _NAME):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule that was not used "
            "yet, or have `__dlpack__` and `__dlpack_device__` attributes"
        )
    managed = _managed(value)
    found = managed.tensor
    if found.device_type not in _CPU_LIKE:
        raise TritonModelException("a DLPack capsule of another device than the CPU has to be "
                                   "given as the tensor itself")  # fmt: skip
    kind = _kind(found)
    shape = tuple(found.shape[: found.ndim])
    strides = None
    if found.strides:
        strides = tuple(step * kind.size_bytes for step in found.strides[: found.ndim])
    _rename(value, _USED)
    keeper = _Keeper(managed)
    address = (found.data or 0) + found.byte_offset
    if 0 in shape:
        return np.empty(shape, kind.dtype), kind
    keeper.__array_interface__ = {
        "data": (address, False), "shape": shape, "strides": strides, "version": 3,
        "typestr": kind.dtype.str,
    }  # fmt: skip
    array: Array = np.asarray(keeper)
    return array, kind


class _Keeper:
    """Owns what a capsule held: who made it is told when no array views it any more."""

    __array_interface__: dict[str, Any]

    def __init__(self, managed: _DLManagedTensor) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(ctypes.byref(self._managed))


def _managed(capsule: Any) -> _DLManagedTensor:
    return _DLManagedTensor.from_address(_pointer(capsule, _NAME))


def _kind(tensor: _DLTensor) -> DataType:
    if tensor.code == _BFLOAT and tensor.bits == 16:
        return BF16
    for kind in DATATYPES.values():
        name = kind.dtype.kind
        code = _CODES.get({"i": "int", "u": "uint", "f": "float", "b": "bool"}.get(name, ""), -1)
        if kind is not BF16 and code == tensor.code and 8 * kind.size_bytes == tensor.bits:
            return kind
    raise TritonModelException(
        f'DType code "{tensor.code}" of {tensor.bits} bits is not supported.'
    )


def _on_cpu(value: Any) -> Any:
    """A copy in the processor's memory, as frameworks make one."""
    for method in ("cpu", "get"):  # torch's, cupy's
        move = getattr(value, method, None)
        if move is not None:
            moved = move()
            if hasattr(moved, "__dlpack__"):
                return moved
    raise TritonModelException(
        "a tensor of another device than the CPU has to be moved there first"
    )
