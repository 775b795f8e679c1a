"""One HTTP/1.1 connection: bytes in, requests in order, bytes out.

It holds framing, keep-alive, pipelining, limits and the life of the socket. It refuses to know
what a request means: a Handler starts an Exchange, which answers through `respond` or `write`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools
import msgspec

from inferd.protocols.http.errors import REASONS, error_body

if TYPE_CHECKING:
    from inferd.protocols.http.listener import HttpListener

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, as received otherwise."""

MAX_PIPELINED = 32
MAX_PIPELINED_BYTES = 1 << 20
"""Requests and bytes of bodies read ahead on one connection before reading stops."""

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may cost; sizes in bytes, times in seconds."""

    max_body_bytes: int = 64 * 1024 * 1024
    max_head_bytes: int = 64 * 1024
    head_timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 600.0


class RequestHead(msgspec.Struct, eq=False, frozen=True):
    """Everything of a request but its body; `target` is the path with its query, as sent."""

    method: bytes
    target: bytes
    headers: Headers
    fields: dict[bytes, bytes]
    """The headers by name; of a repeated one, the last."""
    keep_alive: bool
    body_bytes: int


class HttpRequest(msgspec.Struct, eq=False):
    """A whole request."""

    head: RequestHead
    body: bytes


class Exchange(Protocol):
    """A request being answered."""

    def cancel(self) -> None:
        """The client has left."""


Handler = Callable[["HttpConnection", HttpRequest], Exchange | None]
"""Starts to answer a request; None when there is nobody to tell that the client has left."""

Route = Callable[[RequestHead], Handler]
"""Decides by its head how a request is answered."""


IDLE, HEAD, BODY, ANSWER, STUCK = range(5)
"""Stages of a connection: waiting, reading a head, reading a body, answering, and not being read
by a client that is slower than we are."""


class HttpConnection(asyncio.Protocol):
    """A connection, which answers its requests one after the other, in order."""

    __slots__ = (
        "_body_bytes", "_chunks", "_close_after", "_exchange", "_head_bytes", "_headers",
        "_listener", "_parser", "_pipeline", "_pumping", "_reading", "_rejected", "_request",
        "_resumed", "_target", "_transport", "_whole", "closed", "peer", "since_s", "stage",
    )  # fmt: skip

    def __init__(self, listener: "HttpListener") -> None:
        self._listener = listener
        self._transport: asyncio.Transport = cast(Any, None)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._request: HttpRequest | None = None
        self._exchange: Exchange | None = None
        self._pipeline: deque[HttpRequest] | None = None
        self._pumping = False
        self._reading = True
        self._rejected = False
        self._close_after = False
        self._whole = b""
        self._resumed: asyncio.Event | None = None
        self.peer: Any = None
        self.closed = False
        self.stage = IDLE
        self.since_s = listener.now_s

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.stage == IDLE:
            # A client sends the same head again and again: one that is known byte for byte, with
            # exactly its body behind it, needs no parsing.
            end = data.find(b"\r\n\r\n") + 4
            known = self._listener.heads.get(data[:end])
            if known is not None:
                head, handler = known
                if len(data) - end == head.body_bytes and not self._rejected:
                    self._start(HttpRequest(head, data[end:]), handler)
                    return
            self._whole = data
        else:
            self._whole = b""
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._rejected:
            return
        if self.stage <= BODY:
            self.since_s = self._listener.now_s if self.stage != HEAD else self.since_s
            if self.stage == IDLE:
                self.stage = HEAD
                self._head_bytes = 0
            if self.stage == HEAD:
                self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak no other protocol here: the request is answered as it stands, then closed.
            self._close_after = True
        except httptools.HttpParserError as error:
            self.reject(400, f"malformed HTTP request: {error}")
        if self.stage == HEAD and self._head_bytes > self._listener.limits.max_head_bytes:
            self.reject(431, "request head is too large; at most "
                        f"{self._listener.limits.max_head_bytes} bytes")  # fmt: skip

    def eof_received(self) -> bool | None:
        """Called by the loop; a client that half-closes has left."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._listener.remove(self)
        exchange, self._exchange = self._exchange, None
        self._request = None
        self._pipeline = None
        if exchange is not None:
            exchange.cancel()
        if self._resumed is not None:
            self._resumed.set()
        self._parser = None
        self._chunks = []

    def pause_writing(self) -> None:
        """Called by the loop: the client reads slower than we write."""
        self._resumed = asyncio.Event()
        self.stage = STUCK
        self.since_s = self._listener.now_s

    def resume_writing(self) -> None:
        """Called by the loop."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None
        self.stage = ANSWER if self._request is not None else IDLE
        self.since_s = self._listener.now_s
        self._pump()

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._target = b""
        self._headers = []
        self._chunks = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.stage == HEAD:
            self.stage = BODY
        limit = self._listener.limits.max_body_bytes
        for name, value in self._headers:
            if name == b"content-length" and int(value) > limit:
                self.reject(413, f"request body of {int(value)} bytes exceeds the maximum allowed "
                            f"input size of {limit} bytes")  # fmt: skip
                return
            if name == b"expect" and value.lower() == b"100-continue" and self._request is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Called by the parser, in pieces."""
        if self._rejected:
            return
        self._body_bytes += len(data)
        limit = self._listener.limits.max_body_bytes
        if self._body_bytes > limit:
            self._chunks = []
            self.reject(
                413, f"request body exceeds the maximum allowed input size of {limit} bytes"
            )
            return
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser: a whole request is there."""
        if self._rejected:
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        head = RequestHead(
            self._parser.get_method(), self._target, self._headers, dict(self._headers),
            self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1",
            len(body),
        )  # fmt: skip
        request = HttpRequest(head, body)
        self._chunks = []
        if self._whole:
            self._listener.remember(self._whole, head)
        if self._request is None and self._resumed is None:
            self._start(request)
            return
        if self._pipeline is None:
            self._pipeline = deque()
        self._pipeline.append(request)
        ahead = len(self._pipeline) >= MAX_PIPELINED or len(request.body) > MAX_PIPELINED_BYTES
        if ahead and self._reading:
            self._reading = False
            self._transport.pause_reading()

    # -- answering -------------------------------------------------------------------------------

    def respond(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
    ) -> None:
        """Send a whole answer and go on to the next request."""
        if self.closed:
            return
        self._transport.write(
            self.head(status, headers, content_type, len(body))
            + (b"" if self._request is not None and self._request.head.method == b"HEAD" else body)
        )
        self.finish(status)

    def respond_tensors(self, body: bytes, request_id: bytes) -> None:
        """`respond` with 200 and JSON, for the path that most answers take."""
        listener = self._listener
        request = self._request
        if request is None or not request.head.keep_alive or self._close_after or listener.draining:
            self.respond(200, body, headers=[(b"x-request-id", request_id)])
            return
        self._transport.write(
            b"%b%b\r\ncontent-length: %d\r\n\r\n%b"
            % (listener.ok_head, request_id, len(body), body)
        )
        listener.responses[200] += 1
        self._request = None
        self._exchange = None
        if self.stage == ANSWER:
            self.stage = IDLE
            self.since_s = listener.now_s
        if self._pipeline:
            self._pump()

    def head(
        self, status: int, headers: Headers | None, content_type: bytes, length: int | None
    ) -> bytes:
        """The head of an answer; `length` None is chunked."""
        persistent = b"" if self.keeps_alive() else b"connection: close\r\n"
        extra = b"".join([b"%b: %b\r\n" % pair for pair in headers]) if headers else b""
        framing = (
            b"transfer-encoding: chunked\r\n"
            if length is None
            else b"content-length: %d\r\n" % length
        )
        kind = b"content-type: %b\r\n" % content_type if content_type else b""
        return b"HTTP/1.1 %d %b\r\n%b%b%b%b%b\r\n" % (
            status, REASONS.get(status, b"Status"), self._listener.date_header, kind, extra,
            persistent, framing,
        )  # fmt: skip

    def keeps_alive(self) -> bool:
        """Whether the connection stays open after the answer to the current request."""
        request = self._request
        return (
            request is not None
            and request.head.keep_alive
            and not self._close_after
            and not self._listener.draining
        )

    def write(self, data: bytes) -> None:
        """Send part of a streamed answer."""
        if not self.closed:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough; returns at once when it has or has left."""
        if self._resumed is not None and not self.closed:
            await self._resumed.wait()

    def finish(self, status: int) -> None:
        """The current request is answered: close, or go on to the next."""
        self._listener.count(status)
        keep = self.keeps_alive()
        self._request = None
        self._exchange = None
        if not keep:
            self._rejected = True
            self._transport.close()
            return
        if self.stage == ANSWER:
            self.stage = IDLE
            self.since_s = self._listener.now_s
        if self._pipeline:
            self._pump()

    def reject(self, status: int, message: str) -> None:
        """Answer what is not a request that can be served, and close."""
        if self._rejected or self.closed:
            return
        self._rejected = True
        if self._exchange is None and self._request is None:
            self._transport.write(self.head(status, None, JSON, len(body := error_body(message)))
                                  + body)  # fmt: skip
            self._listener.count(status)
        self._transport.close()

    def close_if_idle(self) -> None:
        """Close a connection that waits for a request."""
        if self._request is None and not self._pipeline and not self.closed:
            self._rejected = True
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection without an answer."""
        if not self.closed:
            self._transport.abort()

    def adopt(self, request: HttpRequest, exchange: Exchange | None) -> None:
        """Remember what answers the current request, to tell it when the client leaves."""
        if self._request is request:
            self._exchange = exchange

    def _start(self, request: HttpRequest, handler: Handler | None = None) -> None:
        self._request = request
        self.stage = ANSWER
        self.adopt(request, (handler or self._listener.route(request.head))(self, request))

    def _pump(self) -> None:
        """Start the next pipelined request; a loop, since an answer may come at once."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._pipeline and self._request is None and self._resumed is None:
                self._start(self._pipeline.popleft())
        finally:
            self._pumping = False
        if not self._reading and not self._pipeline and not self.closed and not self._rejected:
            self._reading = True
            self._transport.resume_reading()
