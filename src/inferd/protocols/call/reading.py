"""One argument of a model, from what a caller wrote to the array that its tensor holds. Pure.

A reader gives items: what `read_item` returns has the argument's own shape, `read_items` has the
number of items before it. Readers are made once for each loaded model.
"""

import binascii
import re
from typing import Any, Protocol

import msgspec
import numpy as np
import orjson

from inferd.protocols.call.arrays import read_array, wrong
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Argument
from inferd.types.tensor import Array

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),")

RawText = msgspec.Raw
"""JSON text as it was sent, which a reader of form json takes instead of a value."""


class ArgumentReader(Protocol):
    """Reads one argument."""

    depth: int | None
    """How many lists an item has round it; None where that is up to the item."""

    def read_item(self, value: Any) -> Array:
        """One item; raises InvalidRequest that names the argument."""

    def read_items(self, values: list[Any]) -> Array:
        """Several items, along a new first dimension; raises InvalidRequest."""


def reader_of(argument: Argument) -> ArgumentReader:
    """The reader of an argument."""
    if argument.form == "json":
        return JsonReader(argument)
    if argument.form in ("bytes", "image"):
        return FileReader(argument)
    return TensorReader(argument)


class TensorReader:
    """Forms tensor and value: nested lists, as deep as the shape is long."""

    def __init__(self, argument: Argument) -> None:
        self._name = argument.name
        self._datatype = DATATYPES[argument.datatype]
        self._shape = argument.shape
        self._batch_shape = None if self._shape is None else (-1, *self._shape)
        self.depth = None if self._shape is None else len(self._shape)

    def read_item(self, value: Any) -> Array:
        """An array of the argument's shape."""
        return read_array(self._name, self._datatype, self._shape, value)

    def read_items(self, values: list[Any]) -> Array:
        """An array with the number of items before the argument's shape."""
        return read_array(self._name, self._datatype, self._batch_shape, values)


class _ElementReader:
    """Forms whose item is one BYTES element; shape ()."""

    def __init__(self, argument: Argument) -> None:
        self._name = argument.name

    def _element(self, path: str, value: Any) -> bytes:
        raise NotImplementedError

    def read_item(self, value: Any) -> Array:
        """An object array of shape ()."""
        array: Array = np.empty((), object)
        array[()] = self._element(self._name, value)
        return array

    def read_items(self, values: list[Any]) -> Array:
        """An object array of shape [items]."""
        array: Array = np.empty(len(values), object)
        for index, value in enumerate(values):
            array[index] = self._element(f"{self._name}[{index}]", value)
        return array


class FileReader(_ElementReader):
    """Forms bytes and image: base64, a data: URL, or the content itself from a carrier of files."""

    depth: int | None = 0

    def __init__(self, argument: Argument) -> None:
        super().__init__(argument)
        self._is_image = argument.form == "image"
        picture = "a picture file in base64, or as a data: URL" if self._is_image else ""
        self._expected = picture or "bytes in base64"

    def _element(self, path: str, value: Any) -> bytes:
        if type(value) is bytes:
            return value
        if type(value) is not str:
            wrong(path, self._expected, value)
        text: str = value
        if text.startswith("data:"):
            text = self._data_of(path, text)
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError) as error:
            wrong(path, f"{self._expected} ({error})", value)

    def _data_of(self, path: str, url: str) -> str:
        found = _DATA_URL.match(url)
        if found is None or not found[2].lower().endswith(";base64"):
            wrong(path, f"{self._expected}, as data:<type>;base64,<data>", url)
        if self._is_image and found[1] and not found[1].lower().startswith("image/"):
            wrong(path, f"{self._expected}, of type image/*, not {found[1][:60]}", url)
        return url[found.end() :]


class JsonReader(_ElementReader):
    """Form json: the text of any JSON value."""

    depth: int | None = None

    def _element(self, path: str, value: Any) -> bytes:
        if type(value) is RawText:
            return bytes(value).strip()
        try:
            return orjson.dumps(value)
        except TypeError:  # a file, or a number beyond 64 bits
            wrong(path, "a JSON value", value)

    def read_items(self, values: Any) -> Array:
        """As above; a list in one raw text is taken apart."""
        if type(values) is RawText:
            values = msgspec.json.decode(values, type=list[RawText])
        return super().read_items(values)


def is_list(value: Any) -> bool:
    """Whether a value, or its raw text, is a list."""
    return bytes(value).lstrip()[:1] == b"[" if type(value) is RawText else type(value) is list
