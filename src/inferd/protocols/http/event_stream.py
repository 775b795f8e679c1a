"""An EventStream: an answer of server-sent events on one connection, each sent when it is there,
and a comment where none comes for long. What an event says, its user knows.
"""

import asyncio
from collections.abc import Callable

from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.http.request import Headers

PING_S = 10.0
"""How long a stream may be silent: proxies end connections on which nothing comes."""

_PING = b": still working\n\n"
_TYPE = b"text/event-stream; charset=utf-8"
_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class EventStream:
    """One answer; `headers` are called for when its head is sent."""

    __slots__ = ("_connection", "_headers", "_silent", "_timer", "begun")

    def __init__(self, connection: HttpConnection, headers: Callable[[], Headers]) -> None:
        self.begun = False
        """Whether the head has been sent: from then on an error is an event."""
        self._connection = connection
        self._headers = headers
        self._silent = True
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Begin to watch for silence."""
        self._silent = True
        self._timer = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def send(self, data: bytes, status: int = 200) -> None:
        """Send events; the first take the answer's head with them, and its status."""
        self._silent = False
        frame = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if not self.begun:
            self.begun = True
            headers = [*self._headers(), *_HEADERS]
            frame = self._connection.head(status, headers, _TYPE, None) + frame
        self._connection.write(frame)

    def end(self, data: bytes = b"") -> None:
        """Send the last events, if there are any; harmless when the client has left."""
        if not self._connection.closed:
            self.send(data)
            self._connection.write(b"0\r\n\r\n")
            self._connection.finish(200)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ping(self) -> None:
        if self._silent:
            self.send(_PING)
        self.arm()
