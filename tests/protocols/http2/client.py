"""A client's side of a connection without a socket, and sinks that remember what they were told."""

import struct
from collections.abc import Callable, Iterable
from typing import Any

from hpack import Decoder, Encoder

from inferd.protocols.http2.connection import Http2Connection
from inferd.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings,
)
from inferd.protocols.http2.headers import Fields, encode_block
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.stream import Http2Stream

Pairs = list[tuple[bytes, bytes]]

REQUEST: Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/package.Service/Method"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
HEAD_BLOCK = encode_block([(b":status", b"200"), (b"content-type", b"application/grpc")])
LAST_BLOCK = encode_block([(b"grpc-status", b"0")])

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def request(**fields: bytes | None) -> bytes:
    """A request's block that leaves tables alone; `te=None` leaves a field out, `_path` is a
    pseudo-header field."""
    pairs = dict(REQUEST)
    more: Pairs = []
    for word, value in fields.items():
        name = (":" + word[1:] if word[0] == "_" else word.replace("_", "-")).encode()
        if value is None:
            del pairs[name]
        elif name in pairs:
            pairs[name] = value
        else:
            more.append((name, value))
    return encode_block([*pairs.items(), *more])


def headers(stream_id: int, block: bytes = request(), flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream_id, block)


def data(stream_id: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, payload)


def call(stream_id: int, payload: bytes = b"question") -> bytes:
    """A whole request."""
    return headers(stream_id) + data(stream_id, payload, END_STREAM)


def frames_of(output: bytes) -> list[Frame]:
    """Cut bytes into frames; they must be whole."""
    found = []
    at = 0
    while at < len(output):
        word, flags, stream_id = HEAD.unpack_from(output, at)
        end = at + 9 + (word >> 8)
        assert end <= len(output)
        found.append((word & 255, flags, stream_id, output[at + 9 : end]))
        at = end
    return found


class Sink:
    """Remembers what it was told."""

    def __init__(self, stream: Http2Stream, fields: Fields) -> None:
        self.stream = stream
        self.fields = fields
        self.body = b""
        self.told: list[Any] = []

    def data(self, chunk: memoryview | bytes) -> None:
        self.body += chunk

    def ended(self) -> None:
        self.told.append("ended")

    def gone(self, code: int) -> None:
        self.told.append(("gone", code))

    def writable(self) -> None:
        self.told.append("writable")


class Echo(Sink):
    """Answers with what it got."""

    def ended(self) -> None:
        super().ended()
        self.stream.answer(HEAD_BLOCK, self.body, LAST_BLOCK)


class Client:
    """Feeds a connection, and cuts what comes back."""

    def __init__(
        self,
        limits: Http2Limits | None = None,
        sink: Callable[[Http2Stream, Fields], Sink] = Sink,
        now_s: float = 0.0,
    ) -> None:
        self.now_s = now_s
        self.limits = limits or Http2Limits()
        self.sinks: dict[int, Sink] = {}
        self.make = sink
        self.told = 0
        self.decoder = Decoder()
        self.encoder = Encoder()
        self.connection = Http2Connection(self.limits, self.accept, now_s)
        self.connection.on_output = self.tell

    def tell(self) -> None:
        self.told += 1

    def accept(self, stream: Http2Stream, fields: Fields) -> Sink:
        sink = self.make(stream, fields)
        self.sinks[stream.id] = sink
        return sink

    def begin(self, **values: int) -> "Client":
        """Preface, SETTINGS both ways."""
        keys = {"window": INITIAL_WINDOW_SIZE, "frame_bytes": MAX_FRAME_SIZE, "table_bytes": 1}
        first = settings({keys[name]: value for name, value in values.items()})
        self.send(PREFACE + first + frame(SETTINGS, ACK, 0))
        return self

    def send(self, *sent: bytes) -> list[Frame]:
        """Send bytes; what came back."""
        for part in sent:
            self.connection.receive(part, self.now_s)
        return self.taken()

    def taken(self) -> list[Frame]:
        """Frames that come now."""
        return frames_of(self.taken_bytes())

    def taken_bytes(self) -> bytes:
        """All that comes, take by take."""
        output = b""
        while True:
            output += b"".join(self.connection.take())
            if not self.connection.has_more:
                return output

    def tick(self, now_s: float) -> list[Frame]:
        self.now_s = now_s
        self.connection.tick(now_s)
        return self.taken()

    def fields(self, block: bytes) -> Pairs:
        return [(bytes(n), bytes(v)) for n, v in self.decoder.decode(block, raw=True)]

    def error(self, *sent: bytes) -> tuple[int, bytes] | None:
        """The code and text of the GOAWAY that this brings; None without one."""
        for kind, _, _, payload in self.send(*sent):
            if kind == GOAWAY:
                return struct.unpack(">I", payload[4:8])[0], payload[8:]
        return None

    def resets(self, *sent: bytes) -> list[tuple[int, int]]:
        """Streams that this has reset, and the codes; the connection goes on."""
        found = resets_of(self.send(*sent))
        assert not self.connection.closing
        return found


def resets_of(frames: Iterable[Frame]) -> list[tuple[int, int]]:
    return [(sid, int.from_bytes(p, "big")) for kind, _, sid, p in frames if kind == RST_STREAM]


def payload_of(frames: Iterable[Frame], stream_id: int) -> bytes:
    """All DATA of a stream."""
    return b"".join(p for kind, _, sid, p in frames if kind == DATA and sid == stream_id)


def updates_of(frames: Iterable[Frame]) -> list[tuple[int, int]]:
    return [(sid, int.from_bytes(p, "big")) for kind, _, sid, p in frames if kind == WINDOW_UPDATE]


def block_of(frames: Iterable[Frame], stream_id: int) -> list[bytes]:
    """The header blocks of a stream."""
    blocks: list[bytes] = []
    for kind, _, sid, payload in frames:
        if sid == stream_id and kind == HEADERS:
            blocks.append(payload)
        elif sid == stream_id and kind == CONTINUATION:
            blocks[-1] += payload
    return blocks
