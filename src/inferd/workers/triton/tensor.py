"""A named tensor of a request or of a response."""

from typing import Any

import numpy as np

from inferd.types.datatype import BF16, BYTES, DataType
from inferd.types.tensor import Array
from inferd.workers.triton.datatypes import kind_of, texts
from inferd.workers.triton.dlpack import CPU, from_dlpack, to_capsule
from inferd.workers.triton.error import TritonModelException


class Tensor:
    """Name, datatype and elements; those of a request are a view of what the server has sent."""

    __slots__ = ("_array", "_kind", "_name")

    def __init__(self, name: str, numpy_array: Array) -> None:
        if not isinstance(numpy_array, np.ndarray):
            raise TypeError(
                f"Tensor '{name}' takes a numpy.ndarray, not '{type(numpy_array).__name__}'; "
                "other frameworks' tensors come by Tensor.from_dlpack"
            )
        kind = kind_of(numpy_array)
        if not numpy_array.dtype.isnative:
            numpy_array = numpy_array.astype(kind.dtype)
        self._name = name
        self._kind = kind
        self._array = texts(numpy_array) if kind is BYTES else numpy_array

    @classmethod
    def of(cls, name: str, kind: DataType, array: Array) -> "Tensor":
        """A tensor of which everything is known to be right."""
        tensor = cls.__new__(cls)
        tensor._name, tensor._kind, tensor._array = name, kind, array
        return tensor

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """What another framework has, without a copy where it lies in the processor's memory."""
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        array, kind = from_dlpack(tensor)
        return Tensor.of(name, kind, array)

    def name(self) -> str:
        """Its name."""
        return self._name

    def as_numpy(self) -> Array:
        """The elements; `bytes` objects of a TYPE_STRING. Raises TritonModelException for BF16,
        which numpy does not have."""
        if self._kind is BF16:
            raise TritonModelException("TYPE_BF16 not currently supported.")
        return self._array

    def shape(self) -> list[int]:
        """Its sizes, the batch dimension first where there is one."""
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """The number of its datatype; `triton_to_numpy_type` knows them."""
        return _NUMBERS[self._kind.name]

    def dtype(self) -> Any:
        """The numpy type of its elements."""
        return self._array.dtype.type

    def is_cpu(self) -> bool:
        """Whether it lies in the processor's memory: always."""
        return True

    def to_dlpack(self) -> Any:
        """A DLPack capsule of it."""
        return to_capsule(self._array, self._kind)

    def __dlpack__(self, stream: Any = None, **_: Any) -> Any:
        return to_capsule(self._array, self._kind)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    # What only inferd asks.

    @property
    def kind(self) -> DataType:
        """Its datatype."""
        return self._kind

    @property
    def array(self) -> Array:
        """Its elements, of any datatype."""
        return self._array


_NUMBERS = {
    name: number
    for number, name in enumerate(
        ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
         "FP32", "FP64", "BYTES", "BF16"),
        1,
    )
}  # fmt: skip
