"""Arrays of numpy."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from inferd.sdk.casting import cast
from inferd.sdk.kinds import Kind, to_bytes, to_text
from inferd.sdk.mismatch import Mismatch, type_name
from inferd.types.datatype import BYTES, DataType
from inferd.types.signature import Form
from inferd.types.tensor import Array


class ArrayKind(Kind):
    """An array; `shape` is that of one item, None is any. `text` arrays hold str, and BYTES
    elements on the wire."""

    def __init__(
        self, datatype: DataType, shape: tuple[int, ...] | None, text: bool = False
    ) -> None:
        self.form: Form = "tensor" if shape != () else "value"
        self.datatype = datatype
        self.shape = shape
        self.text = text
        self.schema = array_schema(datatype, shape)
        dtype = "str" if text else "object" if datatype is BYTES else datatype.dtype.name
        self.expects = f"{dtype} array" + ("" if shape is None else f" of shape {_words(shape)}")

    def decode(self, item: Any) -> Array:
        return self.decode_array(np.asarray(item, self.datatype.dtype), batched=False)

    def decode_array(self, array: Array, batched: bool) -> Array:
        """The array as the function sees it; `batched` where a batch dimension comes first."""
        if array.dtype != self.datatype.dtype:
            raise Mismatch(f"expected {self.expects}, got {type_name(array)}")
        self._check_shape(array, batched)
        return _texts(array) if self.text else array

    def encode(self, value: Any) -> Array:
        return self.encode_array(value, batched=False)

    def encode_array(self, value: Any, batched: bool) -> Array:
        """What may stand for an array of this dtype, as one: lists, and arrays of others."""
        try:
            array = np.asarray(value)
        except Exception as error:  # whatever the value's own `__array__` raises
            raise Mismatch(f"expected {self.expects}, got {type_name(value)}: {error}") from None
        if self.datatype is BYTES:
            array = _elements(array)
        elif array.dtype.kind not in "biuf":
            raise Mismatch(f"expected {self.expects}, got {type_name(value)}")
        elif array.size:
            array = cast(array, self.datatype)
        else:
            array = array.astype(self.datatype.dtype)
        self._check_shape(array, batched)
        return array

    def decode_many(self, items: Array) -> list[Any]:
        return [self.decode_array(item, batched=False) for item in items]

    def encode_many(self, values: Sequence[Any]) -> Array:
        arrays = [self.encode_array(value, batched=False) for value in values]
        if not arrays:
            return np.empty((0, *(max(dim, 0) for dim in self.shape or ())), self.datatype.dtype)
        if any(array.shape != arrays[0].shape for array in arrays):
            shapes = sorted({array.shape for array in arrays})
            raise Mismatch(f"expected arrays of one shape, got {[list(s) for s in shapes]}")
        return np.stack(arrays)

    def to_json(self, value: Any) -> bytes:
        array = self.encode(value)
        return msgspec.json.encode((_texts(array) if self.datatype is BYTES else array).tolist())

    def _check_shape(self, array: Array, batched: bool) -> None:
        if self.shape is None:
            return
        shape = array.shape[1:] if batched else array.shape
        lead = array.ndim > 0 if batched else True
        if lead and len(shape) == len(self.shape):
            for mine, theirs in zip(shape, self.shape, strict=True):
                if mine != theirs and theirs >= 0:
                    break
            else:
                return
        expected = f"{'[batch, ' if batched else '['}{_words(self.shape)[1:]}"
        raise Mismatch(f"expected shape {expected}, got {list(array.shape)}")


def array_schema(datatype: DataType, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """The JSON schema of nested lists; of any shape it is a list of whatever."""
    schema: dict[str, Any] = {"type": _JSON_TYPES[datatype.kind]}
    if shape is None:
        return {"type": "array", "description": f"nested lists of {datatype.kind}, of any shape"}
    for size in reversed(shape):
        sized = {"minItems": size, "maxItems": size} if size >= 0 else {}
        schema = {"type": "array", "items": schema, **sized}
    return schema


def _words(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join("any" if dim < 0 else str(dim) for dim in shape) + "]"


def _texts(array: Array) -> Array:
    texts = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        texts[index] = to_text(item)
    return texts


def _elements(array: Array) -> Array:
    elements = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        elements[index] = to_bytes(item)
    return elements


_JSON_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "bytes": "string"}
