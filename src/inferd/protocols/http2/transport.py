"""An HTTP/2 connection's socket: bytes in at once, bytes out once a turn of the loop.

It refuses to know frames: a Http2Connection does.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from inferd.protocols.http2.connection import Http2Connection

if TYPE_CHECKING:
    from inferd.protocols.http2.listener import Http2Listener

LARGE_BYTES = 128 * 1024
"""Frames of this size together are written one by one: to join them would be to copy them."""


class Http2Transport(asyncio.Protocol):
    """Moves bytes between a socket and its connection."""

    __slots__ = ("_listener", "_loop", "_paused", "_transport", "closed", "connection", "ended_s")

    def __init__(self, listener: "Http2Listener") -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(Any, None)
        self._paused = False
        self.connection = Http2Connection(
            listener.limits, listener.accept, listener.now_s, listener.elsewhere
        )
        self.connection.on_output = self._soon
        self.closed = False
        self.ended_s: float | None = None
        """When we had written all; the client may close, too."""

    # -- called by the loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is here."""
        self._transport = cast(asyncio.Transport, transport)
        self.connection.peer = transport.get_extra_info("peername")
        self._listener.connections.add(self)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self.connection.lost()
            self._transport.close()
        elif self._listener.draining:
            self.connection.drain(self._listener.now_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        self.connection.receive(data, self._listener.now_s)
        self._write()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._paused = True
        self.connection.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        self.connection.resume()
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or we have."""
        self.closed = True
        self._listener.connections.discard(self)
        self.connection.lost()

    # -- for the listener ------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or an answer has not been handed over."""
        return self.connection.busy or (self._paused and not self.closed)

    def leave(self) -> None:
        """Close, once what was answered is written; drop what is not answered."""
        if self.closed:
            return
        if self.busy:
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if not self.closed:
            self._transport.abort()

    # -- writing ---------------------------------------------------------------------------------

    def _soon(self) -> None:
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Hand over what there is; while the socket is full, the connection keeps it."""
        connection = self.connection
        if self.closed or self.ended_s is not None:
            return
        more = True
        # The last frames of a connection go out even to a full socket: there are few.
        while more and (connection.closing or not self._paused):
            frames = connection.take()
            if len(frames) == 1:
                self._transport.write(frames[0])
            elif frames:
                if sum(map(len, frames)) < LARGE_BYTES:
                    self._transport.write(b"".join(frames))
                else:
                    self._transport.writelines(frames)
            more = connection.has_more
        if connection.closing:
            self._end()

    def _end(self) -> None:
        """Say that nothing more will come, and wait for the client to close: closing at once would
        throw away our last frames while the client's are still arriving."""
        self.ended_s = self._listener.now_s
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
