"""The frames of HTTP/2: their numbers, their bytes, and how a stream of bytes is cut into them.

It refuses to know what a frame does to a connection.
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""

(
    DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
    CONTINUATION,
) = range(10)  # fmt: skip

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

(
    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY, HTTP_1_1_REQUIRED,
) = range(14)  # fmt: skip

HEAD_BYTES = 9
MAX_ID = MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
LEAST_FRAME_BYTES, MOST_FRAME_BYTES = 2**14, 2**24 - 1
DEFAULT_TABLE_BYTES = 4096

HEAD = struct.Struct(">IBI")
"""A frame's head: length and type in one word, flags, stream."""
SETTING = struct.Struct(">HI")
_TWO_WORDS = struct.Struct(">II")


class Fault(Exception):
    """What ends a connection: an error code and a word for whoever debugs the other side."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def header_frames(stream_id: int, block: bytes, flags: int, frame_bytes: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION as it needs."""
    if len(block) <= frame_bytes:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[at : at + frame_bytes] for at in range(0, len(block), frame_bytes)]
    middle = [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    first = frame(HEADERS, flags, stream_id, parts[0])
    return b"".join([first, *middle, frame(CONTINUATION, END_HEADERS, stream_id, parts[-1])])


def settings(values: dict[int, int]) -> bytes:
    """SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(*pair) for pair in values.items()]))


def rst_stream(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def window_update(stream_id: int, more: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, more.to_bytes(4, "big"))


def goaway(last_id: int, code: int, message: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last_id, code) + message)


class FrameCutter:
    """Keeps the beginning of a frame until the rest of it has come."""

    __slots__ = ("_kept", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._kept = bytearray()
        self._max_bytes = max_bytes

    def pieces(self, data: bytes) -> tuple[bytes, ...]:
        """`data`, and what was kept before it, as pieces that begin where a frame begins.

        Only the one frame that came in parts is copied. A frame that is too long is not waited
        for: whoever reads its head finds that out.
        """
        kept = self._kept
        if not kept:
            return (data,)
        if len(kept) < HEAD_BYTES:
            missing = HEAD_BYTES - len(kept)
            kept += data[:missing]
            data = data[missing:]
            if len(kept) < HEAD_BYTES:
                return ()
        length = int.from_bytes(kept[:3], "big")
        missing = HEAD_BYTES + length - len(kept)
        if length <= self._max_bytes and len(data) < missing:
            kept += data
            return ()
        self._kept = bytearray()
        if length > self._max_bytes:
            return (bytes(kept),)
        kept += data[:missing]
        return bytes(kept), data[missing:]

    def keep(self, rest: bytes) -> None:
        """The beginning of a frame, all that is left of the last piece."""
        self._kept += rest

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and is not whole."""
        return bool(self._kept)
