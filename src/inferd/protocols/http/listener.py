"""The HTTP front end's socket: accepts connections, ends those that take too long, drains.

It holds what connections share: limits, the date, known heads, counts. It refuses to know what
requests mean.
"""

import asyncio
import logging
import time
from email.utils import formatdate
from typing import Any

from inferd import __version__
from inferd.protocols.http.connection import (
    BODY,
    HEAD,
    IDLE,
    LINGER,
    STUCK,
    Handler,
    HttpConnection,
    Route,
)
from inferd.protocols.http.reader import HttpLimits
from inferd.protocols.http.request import HttpRequest, RequestHead

_log = logging.getLogger("inferd.access")

SWEEP_S = 0.25
"""How often connections are looked at; times are told to this precision."""
LINGER_S = 2.0
IDLE_POLL_S = 0.02
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
        self.connections: set[HttpConnection] = set()
        self.responses: dict[int, int] = {200: 0}
        self.heads: dict[bytes, tuple[RequestHead, Handler]] = {}
        """Request heads seen before, by their bytes, and how such requests are answered."""
        self.draining = False
        self.direct = not access_log
        """Whether an answer needs nothing but to be sent."""
        self.now_s = time.monotonic()
        self.date_header = b""
        self.ok_head = b""
        """Head of an answer in JSON up to the value of x-request-id."""
        self._route = route
        self._access_log = access_log
        self._server: asyncio.Server | None = None
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

    def handler(self, request: HttpRequest) -> Handler:
        """How to answer a request."""
        if self._access_log:
            request.start_s = time.perf_counter()
        return self._route(request.head)

    def remember(self, data: bytes, head: RequestHead) -> None:
        """Keep the head of a request that was all of `data`, for the next of its kind."""
        end = data.find(b"\r\n\r\n") + 4
        framed = b"content-length" in head.fields or head.method == b"GET"
        odd = head.fields.keys() & NOT_REMEMBERED
        if len(data) - end != head.body_bytes or end > MAX_HEAD_BYTES or odd or not framed:
            return
        if self._access_log:
            return  # each request is timed on its way through `handler`
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        self.heads[data[:end]] = head, self._route(head)

    def answered(self, status: int, request: HttpRequest | None, peer: Any) -> None:
        """Count one answer, and log it if that is wanted; `request` None was no request."""
        self.responses[status] = self.responses.get(status, 0) + 1
        if self._access_log:
            method, target = (request.head.method, request.head.target) if request else (b"", b"")
            seconds = time.perf_counter() - request.start_s if request else 0.0
            _log.info(
                "request",
                extra={
                    "method": method.decode("latin-1"),
                    "target": target.decode("latin-1"),
                    "status": status,
                    "milliseconds": round(seconds * 1000, 3),
                    "client": str(peer[0]) if isinstance(peer, tuple) else "",
                },
            )

    # -- ending ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close idle connections; every answer from now on closes its own."""
        self.draining = True
        self.direct = False
        for connection in list(self.connections):
            connection.close_if_idle()

    async def idle(self) -> None:
        """Wait until no connection has a request to answer; the caller has called `drain`."""
        while any(connection.busy for connection in self.connections):
            await asyncio.sleep(IDLE_POLL_S)

    async def stop(self) -> None:
        """Stop listening and drop what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_if_idle() if not connection.busy else connection.abort()

    def _sweep(self) -> None:
        """Four times a second: tell the time, and end connections that hold on without going on."""
        self.now_s = now_s = time.monotonic()
        self.date_header = (
            f"date: {formatdate(usegmt=True)}\r\nserver: inferd/{__version__}\r\n".encode()
        )
        self.ok_head = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\nx-request-id: " % (
            self.date_header
        )
        limits = self.limits
        for connection in list(self.connections):
            waited_s = now_s - connection.since_s - SWEEP_S  # at least this long
            stage = connection.stage
            if stage == IDLE and waited_s > limits.keep_alive_s:
                connection.close_if_idle()
            elif stage == HEAD and waited_s > limits.head_timeout_s:
                connection.reject(408, "the request's head did not arrive in time")
            elif stage == BODY and waited_s > limits.body_timeout_s:
                connection.reject(408, "the request's body did not arrive in time")
            elif (stage == STUCK and waited_s > limits.body_timeout_s) or (
                stage == LINGER and waited_s > LINGER_S
            ):
                connection.abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
