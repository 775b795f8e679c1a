"""The messages of a WebSocket: what a client sends, and what it is answered. Pure.

Text is JSON: `{"id", "inputs": {named arguments}}`, with `"session"` where that is wanted, or
`{"id", "cancel": true}`; answered by `{"id", "outputs"}` or `{"id", "error"}`, and a stream by
several `{"id", "outputs"}` and `{"id", "done": true}`.

A binary message is the body of a binary request of the Open Inference Protocol with the length of
its JSON part in front, as a little-endian uint32: `length | {"id", "inputs": [{"name", "datatype",
"shape", "parameters": {"binary_data_size"}}]} | tensors`. It is answered by one (or, of a stream,
by several) of the same making, with "outputs"; what has no tensors, errors and the end of a stream,
comes as text. There ids are strings. A tensor may lie in the JSON part as well, as in that
protocol.
"""

import struct
from typing import Annotated

import msgspec
import orjson
from msgspec import Meta

from inferd.errors import InvalidRequest
from inferd.protocols.depth import MAX_DEPTH, check_depth
from inferd.protocols.http.oip.request_codec import OutputForm, decode_request
from inferd.protocols.http.oip.response_codec import encode_response
from inferd.types.inference import InferenceRequest, InferenceResponse

_LENGTH = struct.Struct("<I")

MessageId = (
    Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(min_length=1, max_length=256)]
)
"""Whole numbers as far as a browser's are exact, and short texts."""


class TextMessage(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a client in JSON; `inputs` is JSON text."""

    id: MessageId
    inputs: msgspec.Raw = msgspec.Raw(b"{}")
    session: str = ""
    cancel: bool = False


class _OnlyId(msgspec.Struct):
    id: MessageId | None = None


_text_decoder = msgspec.json.Decoder(TextMessage)
_id_decoder = msgspec.json.Decoder(_OnlyId)


def decode_text(data: bytes) -> TextMessage:
    """A message in JSON; raises InvalidRequest."""
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        check_depth(data)
    try:
        return _text_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(
            f'the message is not {{"id": ..., "inputs": {{...}}}}: {error}'
        ) from error


def id_in(data: bytes) -> MessageId | None:
    """The id of a message that is wrong otherwise, where one can be found."""
    try:
        return _id_decoder.decode(data).id
    except (msgspec.DecodeError, RecursionError):
        return None


def decode_binary(name: str, version: str, data: bytes) -> tuple[InferenceRequest, OutputForm]:
    """A request of tensors, which are views of `data`; raises InvalidRequest."""
    if len(data) < _LENGTH.size:
        raise InvalidRequest("a binary message begins with the length of its JSON part, 4 bytes")
    (length,) = _LENGTH.unpack_from(data)
    body = data[_LENGTH.size :]
    if length > len(body):
        raise InvalidRequest(
            f"the JSON part of the binary message is said to have {length} bytes, but only "
            f"{len(body)} are left"
        )
    request, form = decode_request(name, version, body, length)
    if not request.id:
        raise InvalidRequest("the JSON part of a binary message needs an id")
    form.binary_default = True
    return request, form


def binary_id_in(data: bytes) -> MessageId | None:
    """The id of a binary message that is wrong otherwise, where one can be found."""
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(data)
    return id_in(data[_LENGTH.size : _LENGTH.size + length])


# -- answers ---------------------------------------------------------------------------------------


def outputs_message(id: MessageId, outputs: bytes) -> bytes:
    """An answer in JSON; `outputs` is JSON text."""
    return b'{"id":%b,"outputs":%b}' % (orjson.dumps(id), outputs)


def binary_message(id: str, response: InferenceResponse, form: OutputForm) -> bytes:
    """An answer with tensors; raises InvalidRequest."""
    response.id = id
    body, length = encode_response(response, form)
    return _LENGTH.pack(len(body) if length is None else length) + body


def error_message(id: MessageId | None, message: str) -> bytes:
    """An error; without an id where none could be read."""
    return orjson.dumps({"id": id, "error": message.encode("utf-8", "replace").decode()})


def done_message(id: MessageId) -> bytes:
    """The end of a stream."""
    return b'{"id":%b,"done":true}' % orjson.dumps(id)
