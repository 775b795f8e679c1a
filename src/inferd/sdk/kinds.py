"""How a Python value lies in a tensor: the contract, and the kinds of single values.

A kind knows one item. What a batch is, and whose argument it is, is not known here.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from inferd.sdk.casting import cast
from inferd.sdk.mismatch import Mismatch, from_msgspec, type_name
from inferd.types.datatype import BOOL, BYTES, FP64, INT64, DataType
from inferd.types.signature import Form
from inferd.types.tensor import Array


class Kind:
    """How values of one Python type are written. All methods raise Mismatch.

    Here an item is one element of its tensor; `ArrayKind` has items of a shape.
    """

    form: Form = "value"
    datatype: DataType = BYTES
    shape: tuple[int, ...] | None = ()
    schema: dict[str, Any]
    expects: str
    """The type in words, for errors."""

    def decode(self, item: Any) -> Any:
        """The Python value of an item: an element as it lies in the array."""
        raise NotImplementedError

    def encode(self, value: Any) -> Any:
        """The item of a Python value."""
        raise NotImplementedError

    def to_json(self, value: Any) -> bytes:
        """The JSON text of a value, in this kind's form."""
        raise NotImplementedError

    def decode_many(self, items: Array) -> list[Any]:
        """The values of an array of shape [N]."""
        return [self.decode(item) for item in items]

    def encode_many(self, values: Sequence[Any]) -> Array:
        """The array of shape [N] of N values."""
        array = np.empty(len(values), self.datatype.dtype)
        for index, value in enumerate(values):
            array[index] = self.encode(value)
        return array


class NumberKind(Kind):
    """int, float, bool, or a scalar type of numpy; `constrained` is the type with its bounds."""

    def __init__(
        self, python_type: type, datatype: DataType, schema: dict[str, Any], constrained: Any = None
    ) -> None:
        self.datatype = datatype
        self.schema = schema
        self.expects = python_type.__name__
        self._numpy = issubclass(python_type, np.generic) and python_type is not np.bool_
        self._constrained = constrained

    def decode(self, item: Any) -> Any:
        return self.decode_many(np.asarray([item], self.datatype.dtype))[0]

    def decode_many(self, items: Array) -> list[Any]:
        values = items.tolist()
        if self._constrained is not None:
            try:
                for value in values:
                    msgspec.convert(value, self._constrained)
            except msgspec.ValidationError as error:
                raise from_msgspec(error) from None
        return list(items) if self._numpy else values

    def encode(self, value: Any) -> Any:
        return self.encode_many([value])[0]

    def encode_many(self, values: Sequence[Any]) -> Array:
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError, TypeError):
            array = np.asarray(None)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "biuf"):
            raise Mismatch(f"expected {self.expects}, got {self._odd(values)}")
        return cast(array, self.datatype) if array.size else array.astype(self.datatype.dtype)

    def to_json(self, value: Any) -> bytes:
        return msgspec.json.encode(self.encode(value).item())

    def _odd(self, values: Sequence[Any]) -> str:
        """The type of the first that is no number."""
        for value in values:
            array = np.asarray(value) if isinstance(value, (int, float, np.ndarray)) else None
            number = isinstance(value, np.generic) and value.dtype.kind in "biuf"
            if not number and (array is None or array.ndim or array.dtype.kind not in "biuf"):
                return type_name(value)
        return type_name(values)


class TextKind(Kind):
    """str: UTF-8."""

    def __init__(self, schema: dict[str, Any], constrained: Any = None) -> None:
        self.schema = schema
        self.expects = "str"
        self._constrained = constrained

    def decode(self, item: Any) -> str:
        text = to_text(item)
        if self._constrained is not None:
            try:
                msgspec.convert(text, self._constrained)
            except msgspec.ValidationError as error:
                raise from_msgspec(error) from None
        return text

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise Mismatch(f"expected str, got {type_name(value)}")
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Mismatch("expected text, got half of a surrogate pair") from None

    def to_json(self, value: Any) -> bytes:
        return msgspec.json.encode(self.encode(value).decode())


class BytesKind(Kind):
    """bytes."""

    form: Form = "bytes"

    def __init__(self, schema: dict[str, Any], constrained: Any = None) -> None:
        self.schema = schema
        self.expects = "bytes"
        self._constrained = constrained

    def decode(self, item: Any) -> bytes:
        data = to_bytes(item)
        if self._constrained is not None:
            try:
                msgspec.convert(data, self._constrained)
            except msgspec.ValidationError as error:
                raise from_msgspec(error) from None
        return data

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise Mismatch(f"expected bytes, got {type_name(value)}")
        return bytes(value)

    def to_json(self, value: Any) -> bytes:
        return msgspec.json.encode(self.encode(value))


PYTHON_NUMBERS: dict[type, DataType] = {bool: BOOL, int: INT64, float: FP64}
"""The numbers of Python, and what they are on the wire."""


def to_bytes(item: Any) -> bytes:
    """An element of a BYTES tensor; texts are taken as UTF-8."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise Mismatch(f"expected bytes, got {type_name(item)}")


def to_json_value(item: Any) -> Any:
    """An element of a BYTES tensor as the JSON value that it spells."""
    try:
        return msgspec.json.decode(to_bytes(item))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Mismatch(f"expected JSON: {error}") from None


def to_text(item: Any) -> str:
    """An element of a BYTES tensor as text."""
    try:
        return to_bytes(item).decode()
    except UnicodeDecodeError as error:
        raise Mismatch(f"expected UTF-8 text: {error.reason} at byte {error.start}") from None
