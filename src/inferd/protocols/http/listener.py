"""The HTTP front end's socket: accepts connections, ends those that take too long, drains.

It holds what connections share: limits, the date, the handler. It refuses to know what requests
mean.
"""

import asyncio
import time
from email.utils import formatdate

from inferd import __version__
from inferd.protocols.http.connection import (
    BODY,
    HEAD,
    IDLE,
    STUCK,
    Handler,
    HttpConnection,
    HttpLimits,
    RequestHead,
    Route,
)

SWEEP_S = 1.0
BACKLOG = 4096

MAX_HEADS = 512
MAX_HEAD_BYTES = 2048
"""How many request heads are remembered, and how long one may be."""
NOT_REMEMBERED = {b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b"traceparent"}
"""Heads with these need the parser's attention, or differ every time."""


class HttpListener:
    """Listens on one address and has every request answered as one Route decides."""

    def __init__(self, route: Route, limits: HttpLimits, access_log: bool = False) -> None:
        self.limits = limits
        self.access_log = access_log
        self.connections: set[HttpConnection] = set()
        self.responses: dict[int, int] = {200: 0}
        self.heads: dict[bytes, tuple[RequestHead, Handler]] = {}
        """Request heads seen before, by their bytes, and how such requests are answered."""
        self.draining = False
        self.now_s = time.monotonic()
        self.date_header = b""
        self.ok_head = b""
        """Head of an answer in JSON up to the value of x-request-id."""
        self.route = route
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Event | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address in fact bound. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpConnection(self), host, port, backlog=BACKLOG, reuse_address=True
        )
        self._sweep()
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    def remember(self, data: bytes, head: RequestHead) -> None:
        """Keep the head of a request that arrived alone and whole, for the next of its kind."""
        end = data.find(b"\r\n\r\n") + 4
        framed = b"content-length" in head.fields or head.method == b"GET"
        odd = head.fields.keys() & NOT_REMEMBERED
        if len(data) - end != head.body_bytes or end > MAX_HEAD_BYTES or odd or not framed:
            return
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        self.heads[data[:end]] = head, self.route(head)

    def count(self, status: int) -> None:
        """Count one answer."""
        self.responses[status] = self.responses.get(status, 0) + 1

    def drain(self) -> None:
        """Close idle connections; every answer from now on closes its own."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()

    async def idle(self) -> None:
        """Wait until every connection is closed; after `drain` each closes with its answer."""
        while self.connections:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def remove(self, connection: HttpConnection) -> None:
        """Called by a connection that is closed."""
        self.connections.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    async def stop(self) -> None:
        """Stop listening and drop what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        """Once a second: tell the time, and end connections that hold on without going on."""
        self.now_s = now_s = time.monotonic()
        self.date_header = (
            f"date: {formatdate(usegmt=True)}\r\nserver: inferd/{__version__}\r\n".encode()
        )
        self.ok_head = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\nx-request-id: " % (
            self.date_header
        )
        limits = self.limits
        for connection in list(self.connections):
            waited_s = now_s - connection.since_s
            stage = connection.stage
            if stage == IDLE and waited_s > limits.keep_alive_s:
                connection.close_if_idle()
            elif stage == HEAD and waited_s > limits.head_timeout_s:
                connection.reject(408, "the request's head did not arrive in time")
            elif stage == BODY and waited_s > limits.body_timeout_s:
                connection.reject(408, "the request's body did not arrive in time")
            elif stage == STUCK and waited_s > limits.body_timeout_s:
                connection.abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
