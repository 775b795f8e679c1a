"""gzip and deflate bodies, in and out, within a size limit."""

import asyncio
import zlib
from collections.abc import Callable

from inferd.errors import InvalidRequest, PayloadTooLarge, Unsupported

MIN_COMPRESS_BYTES = 1024
"""Smaller answers are sent as they are: compressing them costs more than it saves."""

OFFLOAD_BYTES = 256 * 1024
"""Larger answers are compressed on a thread, and larger JSON is decoded on one."""

_LEVEL = 1
_WBITS = {"gzip": 31, "deflate": 15}


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The decompressed body; raises Unsupported, InvalidRequest, PayloadTooLarge."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise Unsupported(f"Content-Encoding '{encoding}' is not supported; use gzip or deflate")
    if encoding == "deflate" and not _has_zlib_header(body):
        wbits = -15
    plain = b""
    while True:
        stream = zlib.decompressobj(wbits)
        try:
            plain += stream.decompress(body, max_bytes + 1 - len(plain))
        except zlib.error as error:
            raise InvalidRequest(f"request body is not valid {encoding} data: {error}") from error
        if len(plain) > max_bytes:
            raise PayloadTooLarge(
                "decompressed request body exceeds the maximum allowed input size of "
                f"{max_bytes} bytes"
            )
        if not stream.eof:
            raise InvalidRequest(f"request body is truncated {encoding} data")
        body = stream.unused_data
        if not body:
            return plain
        if encoding != "gzip":  # which alone may come in several members
            raise InvalidRequest(f"request body has {len(body)} bytes behind its {encoding} data")


def answer_encoding(accept: bytes | None, size: int) -> str:
    """The encoding of an answer of `size` bytes, by an Accept-Encoding header; empty is none."""
    return choose_encoding(accept) if accept and size >= MIN_COMPRESS_BYTES else ""


def choose_encoding(accept: bytes) -> str:
    """The best encoding that an Accept-Encoding header allows; empty is none."""
    offers = {}
    for part in accept.decode("latin-1").lower().split(","):
        name, _, options = part.strip().partition(";")
        offers[name.strip()] = options.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    for encoding in ("gzip", "deflate"):
        if offers.get(encoding):
            return encoding
    return ""


def compress(body: bytes, encoding: str) -> bytes:
    """The compressed body, fast rather than small."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[encoding])
    return stream.compress(body) + stream.flush()


def compress_for(send: Callable[[bytes], None], body: bytes, encoding: str) -> None:
    """Call `send` with the compressed body: at once, or when a thread is done with a large one."""
    if len(body) <= OFFLOAD_BYTES:
        send(compress(body, encoding))
        return
    work = asyncio.get_running_loop().run_in_executor(None, compress, body, encoding)
    work.add_done_callback(lambda done: send(done.result()))


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
