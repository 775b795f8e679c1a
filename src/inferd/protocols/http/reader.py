"""From the bytes of a connection to whole requests, within limits. Pure: no socket, no time.

Parsing is llhttp's, through httptools. What cannot be served becomes `rejection`, a status and a
message, and nothing is read after it.
"""

from dataclasses import dataclass
from typing import Any

import httptools

from inferd.protocols.http.request import Headers, HttpRequest, RequestHead


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may cost; sizes in bytes, times in seconds."""

    max_body_bytes: int = 64 * 1024 * 1024
    max_head_bytes: int = 64 * 1024
    head_timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 600.0


LARGE_BODY_BYTES = 256 * 1024
"""A body of a known length from here on is collected as it comes: the parser would copy it."""


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_body_bytes", "_chunks", "_done", "_framing_bytes", "_head_bytes", "_headers",
        "_large_bytes", "_limits", "_missing_bytes", "_parser", "_target", "expects_continue",
        "in_body", "in_message", "rejection", "rest", "upgraded",
    )  # fmt: skip

    def __init__(self, limits: HttpLimits) -> None:
        self.in_message = False
        self.in_body = False
        self.expects_continue = False
        """The client waits for a sign before it sends the body."""
        self.upgraded = False
        """The client wants another protocol: its last request is answered as it stands, unless
        the connection is handed over to that protocol."""
        self.rest = b""
        """What came behind a request for another protocol."""
        self.rejection: tuple[int, str] | None = None
        self._limits = limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._framing_bytes = 0
        self._large_bytes = 0
        """The length of the body, where that is large."""
        self._missing_bytes = 0
        """What is still to come of a large body."""
        self._done: list[HttpRequest] = []

    def feed(self, data: bytes) -> list[HttpRequest]:
        """The requests that these bytes complete, in order."""
        if self.rejection is not None or self.upgraded:
            return []
        if self._missing_bytes:
            data = self._collect(data)
        if data:
            self._parse(data)
        done, self._done = self._done, []
        return done

    def _collect(self, data: bytes) -> bytes:
        """Take what belongs to a large body; gives what comes behind it."""
        rest = data[self._missing_bytes :]
        part = data[: self._missing_bytes] if rest else data
        self._chunks.append(part)
        self._body_bytes += len(part)
        self._missing_bytes -= len(part)
        if not self._missing_bytes:
            self.on_message_complete()
            self._parser = httptools.HttpRequestParser(self)  # the old one waits for a body
        return rest

    def _parse(self, data: bytes) -> None:
        had = self._body_bytes
        was_in_body = self.in_body
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.upgraded = True
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._reject(400, f"malformed HTTP request: {error}")
        if self.in_message:
            self._count_framing(len(data), was_in_body, had)
            if self._large_bytes and self.in_body and self.rejection is None:
                self._missing_bytes = self._large_bytes - self._body_bytes

    def _count_framing(self, fed: int, was_in_body: bool, had: int) -> None:
        """A head, and what is not body in a body (sizes of chunks, trailers), must come to an end.

        A piece that also ends another request is not counted. Tiny chunks have more framing than
        body; eight times as much is more than any has.
        """
        limit = self._limits.max_head_bytes
        if self._done:
            return
        if not self.in_body:
            self._head_bytes += fed
            if self._head_bytes > limit:
                self._reject(431, f"request head is too large; at most {limit} bytes are allowed")
        elif was_in_body:
            self._framing_bytes += fed - (self._body_bytes - had)
            if self._framing_bytes > limit + 8 * self._body_bytes:
                self._reject(400, "malformed HTTP request: the framing of its body does not end")

    def _reject(self, status: int, message: str) -> None:
        if self.rejection is None:
            self.rejection = status, message
        self._chunks = []

    # -- called by the parser ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self.in_message = True
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._chunks = []
        self._body_bytes = 0
        self._framing_bytes = 0
        self._large_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The target, perhaps in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; one behind the body, a trailer, is not a header and is not kept."""
        if not self.in_body:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.in_body = True
        most = self._limits.max_head_bytes
        if len(self._target) + sum(len(n) + len(v) + 4 for n, v in self._headers) > most:
            self._reject(431, f"request head is too large; at most {most} bytes are allowed")
        limit = self._limits.max_body_bytes
        expects = False
        for name, value in self._headers:
            if name == b"content-length":
                length = int(value)
                if length > limit:
                    self._reject(413, f"request body of {length} bytes exceeds the maximum allowed "
                                 f"input size of {limit} bytes")  # fmt: skip
                elif length >= LARGE_BODY_BYTES:
                    self._large_bytes = length
            elif name == b"expect" and value.lower() == b"100-continue":
                expects = self._parser.get_http_version() != "1.0"
        self.expects_continue = expects and self.rejection is None

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.rejection is not None:
            return
        self._body_bytes += len(data)
        limit = self._limits.max_body_bytes
        if self._body_bytes > limit:
            self._reject(
                413, f"request body exceeds the maximum allowed input size of {limit} bytes"
            )
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self.in_message = self.in_body = self.expects_continue = False
        if self.rejection is not None:
            return
        chunks, self._chunks = self._chunks, []
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        parser = self._parser
        keep_alive = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        head = RequestHead(
            parser.get_method(), self._target, self._headers, dict(self._headers), keep_alive,
            len(body),
        )  # fmt: skip
        self._done.append(HttpRequest(head, body))
