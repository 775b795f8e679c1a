"""Messages of a gRPC stream: a flag, a length, the bytes. Pure.

Source: gRPC over HTTP/2, "Length-Prefixed-Message".
"""

import zlib
from collections.abc import Callable
from struct import Struct

import numpy as np

from inferd.errors import PayloadTooLarge
from inferd.protocols.malformed import Malformed

PREFIX = Struct(">BI")
PREFIX_BYTES = 5

ENCODINGS = ("identity", "gzip", "deflate")
"""What messages may be compressed with, in both directions."""

MIN_COMPRESS_BYTES = 1024
"""Smaller answers are sent as they are."""

_WBITS = {"gzip": 31, "deflate": 15}
_LEVEL = 1

Message = bytes | memoryview
"""The bytes of a whole message."""

Encoded = bytes | list[bytes | memoryview]
"""A message to be sent, in one piece or in several."""

Frame = tuple[bool, Message]
"""A message, and whether it is compressed."""


Place = Callable[[int, memoryview | bytes], memoryview]
"""Finds memory for a message of so many bytes whose beginning is known."""


def anywhere(size: int, beginning: memoryview | bytes) -> memoryview:
    """Memory for a message that may lie anywhere."""
    return np.empty(size, np.uint8).data


class MessageReader:
    """Cuts messages out of what arrives, whatever the borders of its pieces.

    A message that comes in pieces is put together in memory of its announced length, so that each
    byte is copied once. Pages of it that nothing has been written to do not exist yet.
    """

    __slots__ = ("_buffer", "_compressed", "_filled", "_max_bytes", "_place", "_prefix", "_size")

    def __init__(self, max_bytes: int, place: Place | None = None) -> None:
        self._max_bytes = max_bytes
        self._place = place or anywhere
        self._prefix = b""
        self._buffer: memoryview | None = None
        self._compressed = False
        self._filled = 0
        self._size = 0

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._buffer is not None or bool(self._prefix)

    def feed(self, chunk: memoryview | bytes) -> list[Frame]:
        """The messages that this completes; raises InvalidRequest, PayloadTooLarge."""
        frames: list[Frame] = []
        at, end = 0, len(chunk)
        while at < end:
            buffer = self._buffer
            if buffer is None:
                prefix = self._prefix + bytes(chunk[at : at + PREFIX_BYTES - len(self._prefix)])
                at += len(prefix) - len(self._prefix)
                if len(prefix) < PREFIX_BYTES:
                    self._prefix = prefix
                    break
                self._prefix = b""
                self._begin(prefix)
                if at + self._size <= end:  # all of it is here
                    frames.append((self._compressed, bytes(chunk[at : at + self._size])))
                    at += self._size
                    continue
                buffer = self._buffer = self._place(self._size, chunk[at:end])
            taken = min(self._size - self._filled, end - at)
            buffer[self._filled : self._filled + taken] = chunk[at : at + taken]
            self._filled += taken
            at += taken
            if self._filled == self._size:
                self._buffer = None
                self._filled = 0
                frames.append((self._compressed, buffer))
        return frames

    def _begin(self, prefix: bytes) -> None:
        flag, size = PREFIX.unpack(prefix)
        if flag > 1:
            raise Malformed(f"a message begins with flag {flag}; 0 or 1 was expected")
        if size > self._max_bytes:
            raise PayloadTooLarge(
                f"Received message larger than max ({size} vs. {self._max_bytes})"
            )
        self._compressed = bool(flag)
        self._size = size


def size_of(message: Encoded) -> int:
    """How many bytes."""
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


def joined(message: Encoded) -> bytes:
    """A message in one piece."""
    return message if isinstance(message, bytes) else b"".join(message)


def framed_parts(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """A message in several pieces with its prefix, none of them copied."""
    return [b"\x00" + size_of(parts).to_bytes(4, "big"), *parts]


def framed(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\x00%b%b" % (len(message).to_bytes(4, "big"), message)


def framed_compressed(message: bytes, encoding: str) -> bytes:
    """A message compressed, with its prefix."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[encoding])
    small = stream.compress(message) + stream.flush()
    return b"\x01%b%b" % (len(small).to_bytes(4, "big"), small)


def decompressed(message: Message, encoding: str, max_bytes: int) -> bytes:
    """A message as it was; `encoding` is one of ENCODINGS. Raises Malformed, PayloadTooLarge."""
    if encoding == "identity":
        raise Malformed("a message is compressed, but no grpc-encoding says with what")
    stream = zlib.decompressobj(_WBITS[encoding])
    try:
        plain = stream.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"a message is not valid {encoding} data: {error}") from error
    if len(plain) > max_bytes:
        raise PayloadTooLarge(f"Received message larger than max after decompression ({max_bytes})")
    if not stream.eof or stream.unused_data:
        raise Malformed(f"a message is not one whole piece of {encoding} data")
    return plain
