"""One HTTP/1.1 connection: bytes in, requests in order, bytes out.

It holds keep-alive, pipelining and the life of the socket. It refuses to know how bytes become
requests (`reader.py`) and what a request means: a Handler starts an Exchange, which answers through
`respond` or `write`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from inferd.protocols.http.errors import REASONS, error_body
from inferd.protocols.http.reader import RequestReader
from inferd.protocols.http.request import Headers, HttpRequest, RequestHead
from inferd.protocols.http.tunnel import Tunnel

if TYPE_CHECKING:
    from inferd.protocols.http.listener import HttpListener

_log = logging.getLogger("inferd.http")

MAX_PIPELINED = 32
LARGE_BYTES = 128 * 1024
"""To copy an answer of this size behind its head would cost more than a second write."""

MAX_PIPELINED_BYTES = 1 << 20
"""Requests and bytes of bodies read ahead on one connection before reading stops."""

JSON = b"application/json"

BODILESS = (204, 304)
"""Answers that have no body, and so none of the headers that frame one."""

IDLE, HEAD, BODY, ANSWER, STUCK, LINGER, UPGRADED = range(7)
"""Stages of a connection: waiting, reading a head, reading a body, answering, answering a client
that reads too slowly, closed by us but not yet by the client, and handed over to a Tunnel."""


class Exchange(Protocol):
    """A request being answered."""

    def cancel(self) -> None:
        """The client has left."""


Handler = Callable[["HttpConnection", HttpRequest], Exchange | None]
"""Starts to answer a request; None when there is nobody to tell that the client has left."""

Route = Callable[[RequestHead], Handler]
"""Decides by its head how a request is answered."""


class HttpConnection(asyncio.Protocol):
    """A connection, which answers its requests one after the other, in order."""

    __slots__ = (
        "_ahead_bytes", "_ended", "_exchange", "_listener", "_pipeline", "_pumping", "_reader",
        "_reading", "_request", "_resumed", "_transport", "_tunnel", "closed", "peer", "since_s",
        "stage",
    )  # fmt: skip

    def __init__(self, listener: "HttpListener") -> None:
        self._listener = listener
        self._transport: asyncio.Transport = cast(Any, None)
        self._reader = RequestReader(listener.limits)
        self._request: HttpRequest | None = None
        self._exchange: Exchange | None = None
        self._pipeline: deque[HttpRequest] | None = None
        self._ahead_bytes = 0
        self._pumping = False
        self._reading = True
        self._ended = False
        self._resumed: asyncio.Event | None = None
        self._tunnel: Tunnel | None = None
        self.peer: Any = None
        self.closed = False
        self.stage = IDLE
        self.since_s = listener.now_s

    # -- called by the loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is here."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        listener = self._listener
        if self.stage == IDLE:
            # A client sends the same head again and again: one that is known byte for byte, with
            # exactly its body behind it, needs no parsing.
            end = data.find(b"\r\n\r\n") + 4
            known = listener.heads.get(data[:end])
            if known is not None and len(data) - end == known[0].body_bytes:
                self._start(HttpRequest(known[0], data[end:]), known[1])
                return
        elif self._ended:
            return
        elif self._tunnel is not None:
            self._tunnel.receive(data)
            return
        reader = self._reader
        fresh = not reader.in_message
        if fresh or reader.in_body:
            self.since_s = listener.now_s
        requests = reader.feed(data)
        if fresh and len(requests) == 1 and not (reader.in_message or reader.upgraded):
            listener.remember(data, requests[0].head)
        for request in requests:
            self._take(request)
        if self._request is None and not self._pipeline:
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or we have."""
        self.closed = True
        self._listener.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        self._request = None
        self._pipeline = None
        if exchange is not None:
            exchange.cancel()
        if self._tunnel is not None:
            self._tunnel.lost()
        if self._resumed is not None:
            self._resumed.set()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._resumed = asyncio.Event()
        self.stage = STUCK
        self.since_s = self._listener.now_s

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None
        self.since_s = self._listener.now_s
        if self._ended:
            self.stage = LINGER
        elif self._tunnel is not None:
            self.stage = UPGRADED
            self._tunnel.caught_up()
        elif self._request is not None:
            self.stage = ANSWER
        else:
            self.stage = IDLE
            self._go_on()

    # -- answering -------------------------------------------------------------------------------

    def respond(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
    ) -> None:
        """Send a whole answer and go on to the next request."""
        if self.closed:
            return
        head = self.head(status, headers, content_type, len(body))
        without_body = status in BODILESS or (
            self._request is not None and self._request.head.method == b"HEAD"
        )
        if without_body:
            self._transport.write(head)
        elif len(body) < LARGE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        self.finish(status)

    def respond_tensors(self, body: bytes, request_id: bytes) -> None:
        """`respond` with 200 and JSON, for the path that most answers take."""
        listener = self._listener
        request = self._request
        if request is None or not request.head.keep_alive or not listener.direct:
            self.respond(200, body, headers=[(b"x-request-id", request_id)])
            return
        self._transport.write(
            b"%b%b\r\ncontent-length: %d\r\n\r\n%b"
            % (listener.ok_head, request_id, len(body), body)
        )
        listener.responses[200] += 1
        self._request = None
        self._exchange = None
        self._go_on()

    def head(
        self, status: int, headers: Headers | None, content_type: bytes, length: int | None
    ) -> bytes:
        """The head of an answer; `length` None is chunked."""
        persistent = b"" if self._keeps_alive() else b"connection: close\r\n"
        extra = b"".join([b"%b: %b\r\n" % pair for pair in headers]) if headers else b""
        framing = (
            b"transfer-encoding: chunked\r\n"
            if length is None
            else b"content-length: %d\r\n" % length
        )
        if status in BODILESS:
            framing = b""
        kind = b"content-type: %b\r\n" % content_type if content_type else b""
        return b"HTTP/1.1 %d %b\r\n%b%b%b%b%b\r\n" % (
            status, REASONS.get(status, b"Status"), self._listener.date_header, kind, extra,
            persistent, framing,
        )  # fmt: skip

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
        request = self._request
        self._listener.answered(status, request, self.peer)
        keep = self._keeps_alive()
        self._request = None
        self._exchange = None
        if keep:
            self._go_on()
        else:
            self._linger()

    def fail(self, request: HttpRequest) -> None:
        """Answer 500 to a request, if it has not been answered; whatever would, is told to stop."""
        if self._request is request:
            if self._exchange is not None:
                self._exchange.cancel()
            self.respond(500, error_body("internal error; the server's log has it"))

    def adopt(self, request: HttpRequest, exchange: Exchange | None) -> None:
        """Remember what answers the current request, to tell it when the client leaves."""
        if self._request is request:
            self._exchange = exchange

    # -- another protocol ------------------------------------------------------------------------

    def upgrade(self, tunnel: Tunnel, answer: bytes) -> None:
        """Send `answer` to the current request; all that comes from now on is the tunnel's."""
        if self.closed:
            return
        self._transport.write(answer)
        self._listener.answered(101, self._request, self.peer)
        self._request = None
        self._pipeline = None
        self._tunnel = tunnel
        self.stage = UPGRADED if self._resumed is None else STUCK
        self.hold(False)
        rest = self._reader.rest
        if rest:
            tunnel.receive(rest)

    def hold(self, held: bool) -> None:
        """Read nothing more of an upgraded connection for now, or go on."""
        if self.closed or self._reading != held:
            return
        self._reading = not held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def is_stuck(self) -> bool:
        """Whether the client reads slower than we write."""
        return self._resumed is not None

    def hang_up(self) -> None:
        """Close an upgraded connection, once what was written is sent."""
        self._ended = True
        self.stage = LINGER
        self.since_s = self._listener.now_s
        if not self.closed:
            self._transport.close()

    # -- ending ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its body is on its way."""
        if self._tunnel is not None:
            return self._tunnel.busy
        return self._request is not None or bool(self._pipeline) or self._reader.in_body

    def close_if_idle(self) -> None:
        """Close a connection that waits for a request."""
        if self._tunnel is not None:
            self._tunnel.drain()
        elif not self.closed and not self.busy:
            self._transport.close()

    def reject(self, status: int, message: str) -> None:
        """Answer what is not a request that can be served, and close."""
        body = error_body(message)
        self._transport.write(self.head(status, None, JSON, len(body)) + body)
        self._listener.answered(status, None, self.peer)
        self._linger()

    def abort(self) -> None:
        """Drop the connection without an answer."""
        if not self.closed:
            self._transport.abort()

    def _linger(self) -> None:
        """Say that nothing more will come, and wait for the client to close: closing at once would
        throw away our last answer while its upload is still arriving."""
        self._pipeline = None
        self._ended = True
        self.stage = LINGER if self._resumed is None else STUCK
        self.since_s = self._listener.now_s
        if not self.closed and not self._transport.is_closing():
            if self._reading and self._reader.in_message:
                self._transport.write_eof()
            else:
                self._transport.close()

    # -- going on --------------------------------------------------------------------------------

    def _keeps_alive(self) -> bool:
        request = self._request
        if request is None or not request.head.keep_alive or self._listener.draining:
            return False
        return bool(self._pipeline) or not self._reader.upgraded

    def _take(self, request: HttpRequest) -> None:
        if self._request is None and self._resumed is None and not self.closed:
            self._start(request)
            return
        if self._pipeline is None:
            self._pipeline = deque()
        self._pipeline.append(request)
        self._ahead_bytes += len(request.body)
        ahead = len(self._pipeline) >= MAX_PIPELINED or self._ahead_bytes > MAX_PIPELINED_BYTES
        if ahead and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _start(self, request: HttpRequest, handler: Handler | None = None) -> None:
        self._request = request
        self.stage = ANSWER
        try:
            exchange = (handler or self._listener.handler(request))(self, request)
        except Exception:
            _log.exception("request failed before it was answered")
            self.fail(request)
            return
        self.adopt(request, exchange)

    def _go_on(self) -> None:
        if self._pipeline:
            self._pump()
        elif self.stage <= ANSWER:
            self._rest()

    def _pump(self) -> None:
        """Start the next pipelined request; a loop, since an answer may come at once."""
        if self._pumping:
            return
        self._pumping = True
        while self._pipeline and self._request is None and self._resumed is None:
            request = self._pipeline.popleft()
            self._ahead_bytes -= len(request.body)
            self._start(request)
        self._pumping = False
        if not (self._pipeline or self._request is not None or self.closed or self._ended):
            self._go_on()

    def _rest(self) -> None:
        """Everything that came is answered: what now?"""
        reader = self._reader
        if self._ended or self.closed or self._tunnel is not None:
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if reader.rejection is not None:
            self.reject(*reader.rejection)
            return
        if reader.expects_continue:
            reader.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.stage <= ANSWER:
            if not reader.in_message:
                self.stage = IDLE
                self.since_s = self._listener.now_s
            else:
                self.stage = BODY if reader.in_body else HEAD
