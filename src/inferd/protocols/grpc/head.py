"""What the header block of a request says of a call, and the header blocks of answers.

A client sends the same block again and again, so what is read of one is kept by the router for as
long as HTTP/2 recognises the block.
"""

import base64
import binascii
from collections.abc import Mapping

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.protocols.grpc.framing import ENCODINGS
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.status import encode_message, status_of
from inferd.protocols.grpc.timeout import timeout_ns
from inferd.protocols.http2.headers import Fields, encode_block

REQUEST_ID = b"x-request-id"

_HEAD = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ",".join(ENCODINGS).encode()),
)
HEAD = encode_block(_HEAD)
"""Begins an answer."""

HEADS = {
    encoding: HEAD + encode_block(((b"grpc-encoding", encoding.encode()),))
    for encoding in ENCODINGS[1:]
}
"""Begins an answer whose messages are compressed."""

_ID_NAME = encode_block(((REQUEST_ID, b""),))[:-1]

_BEGINNINGS = {encoding: head + _ID_NAME for encoding, head in (*HEADS.items(), ("", HEAD))}

OK = encode_block(((b"grpc-status", b"0"),))
"""Ends an answer that is whole."""

_KINDS = (b"application/grpc+proto", b"application/grpc;")
_RESERVED = (b"grpc-", b":")
_OF_HTTP = {b"te", b"content-type", b"user-agent", b"content-length", b"host"}


class CallHead:
    """A call as its header block describes it."""

    __slots__ = ("accepts", "encoding", "fields", "method", "refusal", "request_id", "timeout_ns")

    def __init__(self, fields: Fields, methods: Mapping[bytes, Method]) -> None:
        self.fields = fields
        self.method = methods.get(fields.get(b":path", b""))
        self.encoding = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
        self.accepts = fields.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
        self.request_id = fields.get(REQUEST_ID)
        self.timeout_ns = 0
        """0 is none; a client that gives no time at all gets one that has passed."""
        self.refusal: InferdError | None = None
        """Why there will be no call."""
        try:
            timeout = fields.get(b"grpc-timeout")
            if timeout is not None:
                self.timeout_ns = max(1, timeout_ns(timeout))
            if self.encoding not in ENCODINGS:
                raise Unsupported(
                    f"grpc-encoding '{self.encoding}' is not supported; use gzip or deflate"
                )
            if self.method is None:
                raise Unsupported(_unknown(fields.get(b":path", b"").decode("latin-1"), methods))
        except InferdError as error:
            self.refusal = error

    def metadata(self) -> dict[bytes, bytes]:
        """What the client says beyond the call itself; values of names that end in -bin as bytes.

        Raises InvalidRequest.
        """
        return {
            name: _binary(name, value) if name.endswith(b"-bin") else value
            for name, value in self.fields.items()
            if not name.startswith(_RESERVED) and name not in _OF_HTTP
        }

    def answer_encoding(self) -> str:
        """What to compress answers with if the client compresses: the same, where it takes that."""
        takes = self.encoding != "identity" and self.encoding.encode() in self.accepts
        return self.encoding if takes else ""


def http_refusal(fields: Fields) -> bytes:
    """The header block for a request that is no gRPC call; empty for one that is."""
    if fields.get(b":method") != b"POST":
        return encode_block(((b":status", b"405"), (b"allow", b"POST")))
    kind = fields.get(b"content-type", b"")
    if kind == b"application/grpc" or kind.startswith(_KINDS):
        return b""
    return encode_block(((b":status", b"415"), (b"accept", b"application/grpc")))


def answer_head(request_id: bytes, encoding: str = "") -> bytes:
    """Begins the answer to a request with that id."""
    size = len(request_id)
    if size < 127:  # as encode_block would write it
        return b"%b%c%b" % (_BEGINNINGS[encoding], size, request_id)
    return (HEADS[encoding] if encoding else HEAD) + encode_block(((REQUEST_ID, request_id),))


def error_trailers(error: InferdError, more: Mapping[bytes, bytes]) -> bytes:
    """Ends an answer with an error; `more` is trailing metadata."""
    fields = (
        (b"grpc-status", b"%d" % status_of(error)),
        (b"grpc-message", encode_message(str(error))),
        *_encoded(more),
    )
    return encode_block(fields)


def error_block(error: InferdError, request_id: bytes, more: Mapping[bytes, bytes]) -> bytes:
    """A whole answer that is an error and nothing else."""
    return answer_head(request_id) + error_trailers(error, more)


def trailers(more: Mapping[bytes, bytes]) -> bytes:
    """Ends an answer that is whole."""
    return OK + encode_block(_encoded(more)) if more else OK


def _encoded(metadata: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (name, base64.b64encode(value).rstrip(b"=") if name.endswith(b"-bin") else value)
        for name, value in metadata.items()
    )


def _binary(name: bytes, value: bytes) -> bytes:
    """The bytes of a binary header: base64 with or without padding; several become one."""
    try:
        return b",".join(
            base64.b64decode(part.strip() + b"=" * (-len(part.strip()) % 4), validate=True)
            for part in value.split(b",")
        )
    except binascii.Error as error:
        raise InvalidRequest(f"metadata '{name.decode('latin-1')}' is not base64") from error


def _unknown(path: str, methods: Mapping[bytes, Method]) -> str:
    service, _, method = path.lstrip("/").partition("/")
    services = {known.decode().split("/")[1] for known in methods}
    if service in services:
        return f"unknown method {method} for service {service}"
    return f"unknown service {service}; this server has {', '.join(sorted(services))}"
