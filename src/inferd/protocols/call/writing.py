"""One result of a model, from its array to JSON text. Pure.

Numbers are written in their shortest form that reads back the same; NaN and infinities, which JSON
lacks, become null, as in the Open Inference Protocol's answers: who needs them asks there for
binary tensors.
"""

import binascii
from typing import Any, Protocol

import numpy as np
import orjson

from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.call.arrays import from_bf16
from inferd.types.datatype import BF16, BYTES, DATATYPES
from inferd.types.inference import InferenceResponse
from inferd.types.signature import Argument
from inferd.types.tensor import Array

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class ResultWriter(Protocol):
    """Writes one result."""

    def __call__(self, items: Array) -> bytes:
        """The JSON text of an array of the result's own shape, or of several such side by side."""


def writer_of(result: Argument) -> ResultWriter:
    """The writer of a result."""
    if result.form in ("bytes", "image"):
        return _write_base64
    if result.form == "json":
        return _write_json
    datatype = DATATYPES[result.datatype]
    if datatype is BYTES:
        return lambda items: _write_texts(result.name, items)
    if datatype is BF16:
        return lambda items: _write_numbers(from_bf16(np.ascontiguousarray(items)))
    return _write_numbers


def _write_numbers(items: Array) -> bytes:
    if items.ndim == 0:  # as an array: of scalars orjson knows one type a size, and C has two
        return orjson.dumps(items.reshape(1), option=_NUMPY)[1:-1]
    if not items.flags.c_contiguous:
        items = np.ascontiguousarray(items)
    return orjson.dumps(items, option=_NUMPY)


def _write_texts(name: str, items: Array) -> bytes:
    texts: Array = np.empty(items.shape, object)
    try:
        texts.reshape(-1)[:] = [_text(value) for value in items.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"result '{name}' holds bytes that are not UTF-8 text; ask for it as a binary tensor, "
            "over /v2/models/<name>/infer or in a binary WebSocket frame"
        ) from error
    return orjson.dumps(texts.tolist())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _write_base64(items: Array) -> bytes:
    return _elements(items, lambda e: b'"%b"' % binascii.b2a_base64(e, newline=False))


def _write_json(items: Array) -> bytes:
    return _elements(items, lambda e: e or b"null")


def _elements(items: Array, write: Any) -> bytes:
    if items.ndim == 0:
        text: bytes = write(_bytes(items[()]))
        return text
    return b"[%b]" % b",".join([write(_bytes(e)) for e in items.reshape(-1).tolist()])


def whole(response: InferenceResponse | InferdError) -> InferenceResponse:
    """A part of a stream whose reader cannot go on behind an error; raises it."""
    if isinstance(response, InferdError):
        raise response
    return response
