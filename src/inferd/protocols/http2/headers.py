"""Header blocks: fields to bytes and back, and what a request's fields must be (RFC 9113, 8).

Compression is the `hpack` library's. A block that leaves its table as it was means the same until
the table changes, so it is looked up. What is encoded here never touches the table of the client,
so a block can be kept, and sent on any connection.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from inferd.protocols.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Fault

Fields = dict[bytes, bytes]
"""Names in lower case, pseudo-header fields among them; values of a repeated name are joined."""

MAX_KNOWN = 32
MAX_KNOWN_BYTES = 1024
"""How many blocks are remembered, and how long one may be."""

TABLE_SIZE_ZERO = b"\x20"
"""In front of a block: the encoder's table has been emptied for good."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?![ \t])[^\x00\r\n]*(?<![ \t])")
_PSEUDO = {b":method", b":scheme", b":authority", b":path"}
_NEEDED = _PSEUDO - {b":authority"}
_OF_A_CONNECTION = {
    b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade",
}  # fmt: skip


class Request(NamedTuple):
    """The head of a request."""

    fields: Fields
    length: int
    """What content-length says; -1 without one."""


class Malformed(Exception):
    """A request that RFC 9113 does not allow."""


class TooLarge(Exception):
    """A request with more fields than are served."""


class HeaderDecoder:
    """Decodes the header blocks of one connection, in order."""

    __slots__ = ("_decoder", "_max_bytes", "known")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoder = Decoder(max_header_list_size=2 * max_bytes)
        self.known: dict[bytes, Request] = {}
        """Requests by their blocks, as long as the table stays as it is."""

    def request(self, block: bytes) -> Request:
        """The request that a block says. Raises Fault, Malformed, TooLarge."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        before = entries[0] if entries else None, len(entries), table.maxsize
        try:
            pairs = self._decode(block)
        finally:
            # An entry that is added is another object than the one that was first.
            first = entries[0] if entries else None
            changed = first is not before[0] or (len(entries), table.maxsize) != before[1:]
            if changed:
                self.known.clear()
        request = request_of(self._bounded(pairs))
        if not changed and len(block) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[block] = request
        return request

    def trailers(self, block: bytes) -> None:
        """Read fields behind a body, for nobody but the table. Raises as `request` does."""
        self.known.clear()
        check_trailers(self._bounded(self._decode(block)))

    def skip(self, block: bytes) -> None:
        """Read a block that nobody wants: the table must hear of it. Raises Fault."""
        self.known.clear()
        self._decode(block)

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise Fault(ENHANCE_YOUR_CALM, "header list too large") from None
        except HPACKError as error:
            raise Fault(COMPRESSION_ERROR, f"header block: {error}"[:200]) from None

    def _bounded(self, pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        size = sum(len(name) + len(value) + 32 for name, value in pairs)
        if size > self._max_bytes:
            raise TooLarge(f"header list of {size} bytes; at most {self._max_bytes} are allowed")
        return pairs


def request_of(pairs: Iterable[tuple[bytes, bytes]]) -> Request:
    """The request that these fields make. Raises Malformed."""
    fields: Fields = {}
    regular = False
    for name, value in pairs:
        if name[:1] == b":":
            if regular or name not in _PSEUDO or name in fields:
                raise Malformed(f"pseudo-header field {name!r} is unknown, repeated or late")
        else:
            regular = True
            _check(name, value)
        if not _VALUE.fullmatch(value):
            raise Malformed(f"field {name!r} has a value that is not allowed")
        if name in fields:
            separator = b"; " if name == b"cookie" else b","
            value = fields[name] + separator + value
        fields[name] = value
    if not fields.keys() >= _NEEDED:
        raise Malformed("a request needs :method, :scheme and :path")
    if not fields[b":path"] or fields[b":method"] == b"CONNECT":
        raise Malformed("a request needs a path, and CONNECT is not served")
    host = fields.get(b"host")
    if host is not None and host.lower() != fields.get(b":authority", host).lower():
        raise Malformed("host is not :authority")
    length = fields.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 19):
        raise Malformed("content-length is not a number")
    return Request(fields, -1 if length is None else int(length))


def check_trailers(pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Fields behind a body; raises Malformed."""
    for name, value in pairs:
        _check(name, value)
        if not _VALUE.fullmatch(value):
            raise Malformed(f"field {name!r} has a value that is not allowed")


def _check(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise Malformed(f"field name {name!r} is not allowed")
    if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed(f"field {name!r} is of a connection")


# -- encoding -------------------------------------------------------------------------------------


def encode_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that any client can read at any time: indexed where the static table has the
    field, and otherwise literal, without indexing."""
    out = bytearray()
    for name, value in fields:
        index, values = HeaderTable.STATIC_TABLE_MAPPING.get(name, (0, {}))
        if value in values:
            out += _integer(values[value], 7, 0x80)
            continue
        out += _integer(index, 4, 0)
        if not index:
            out += _integer(len(name), 7, 0)
            out += name
        out += _integer(len(value), 7, 0)
        out += value
    return bytes(out)


def _integer(number: int, bits: int, pattern: int) -> bytes:
    """An integer behind the first bits of its byte (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((pattern | number,))
    out = bytearray((pattern | most,))
    number -= most
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
