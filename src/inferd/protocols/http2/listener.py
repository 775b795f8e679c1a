"""The socket of HTTP/2: accepts connections, tells them the time, drains them.

It refuses to know what requests mean.
"""

import asyncio
import time

from inferd.protocols.http2.connection import ELSEWHERE, Accept
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.tls import ServerTls
from inferd.protocols.http2.transport import Http2Transport

SWEEP_S = 0.25
"""How often connections are looked at; times are told to this precision."""
LINGER_S = 2.0
"""How long a client may take to close a connection that we have ended."""
IDLE_POLL_S = 0.02
BACKLOG = 4096


class Http2Listener:
    """Listens on one address, and has every request answered as one Accept decides."""

    def __init__(
        self, accept: Accept, limits: Http2Limits, tls: ServerTls | None = None,
        elsewhere: str = ELSEWHERE,
    ) -> None:  # fmt: skip
        self.accept = accept
        self.limits = limits
        self.elsewhere = elsewhere
        """Where those who speak HTTP/1.1 are sent."""
        self.connections: set[Http2Transport] = set()
        self.draining = False
        self.now_s = time.monotonic()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address in fact bound. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Http2Transport(self), host, port, backlog=BACKLOG, reuse_address=True,
            ssl=self._tls.context if self._tls else None,
        )  # fmt: skip
        self._sweep()
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    def drain(self) -> None:
        """Take no new connections, and ask the clients of the others to leave."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        self.now_s = time.monotonic()
        for transport in list(self.connections):
            transport.connection.drain(self.now_s)

    async def told(self) -> None:
        """Wait until every client knows that it is to leave, and sends no new requests."""
        while any(transport.connection.accepting for transport in self.connections):
            await asyncio.sleep(IDLE_POLL_S)

    async def idle(self) -> None:
        """Wait until no connection has a request to answer; the caller has called `drain`."""
        while any(transport.busy for transport in self.connections):
            await asyncio.sleep(IDLE_POLL_S)

    async def stop(self) -> None:
        """Stop listening and drop what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for transport in list(self.connections):
            transport.leave()

    def _sweep(self) -> None:
        """Four times a second: tell the time, end what takes too long, look for certificates."""
        self.now_s = now_s = time.monotonic()
        for transport in list(self.connections):
            ended_s = transport.ended_s
            if ended_s is None:
                transport.connection.tick(now_s)
            elif now_s - ended_s > LINGER_S:
                transport.abort()
        if self._tls is not None:
            self._tls.refresh()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
