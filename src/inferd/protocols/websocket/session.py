"""A WebSocketSession: the frames of one connection, through the websockets library's protocol
without I/O. It assembles messages, keeps the connection alive, and closes it.

It refuses to know what messages mean (`calls.py`). Compression is not offered: numbers hardly
shrink, and what a small message may grow to would have to be bounded anew.
"""

import asyncio
from collections.abc import Awaitable

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.websocket.calls import WebSocketCalls
from inferd.serving.data_plane import DataPlane

PING_S = 20.0
"""How long a connection may be silent before it is asked whether it is there; a client that does
not answer for as long again has left."""


MOST_UNHEEDED = 64 * 1024
"""Bytes that are read of a client that does not read: it may cancel, but not ask without end."""


class WebSocketSession:
    """One client; a Tunnel of its connection, and the Sender of its calls."""

    def __init__(
        self, connection: HttpConnection, protocol: ServerProtocol, plane: DataPlane, name: str,
        version: str, session: str,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._protocol = protocol
        self._calls = WebSocketCalls(plane, name, version, session, self)
        self._parts: list[bytes] = []
        self._binary = False
        self._heard = True
        self._held = False
        self._unheeded = 0
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    # -- from the connection ---------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a call is not answered."""
        return self._calls.busy

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        self._heard = True
        if self._connection.is_stuck:
            self._unheeded += len(data)
            self._hold()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._flush()

    def caught_up(self) -> None:
        """The client reads again."""
        self._unheeded = 0
        self._hold()

    def lost(self) -> None:
        """The client has left, or we have: whatever it asked for is not wanted any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._parts.clear()
        self._calls.leave()

    def drain(self) -> None:
        """Close once everything in flight is answered."""
        told_before, self._draining = self._draining, True
        if self.busy:
            return
        self._close(CloseCode.GOING_AWAY, "the server is shutting down")
        if told_before:
            self._connection.hang_up()

    # -- for the calls ---------------------------------------------------------------------------

    def send(self, data: bytes, binary: bool) -> None:
        """Send one message."""
        if self._protocol.state is not State.OPEN:
            return
        if binary:
            self._protocol.send_binary(data)
        else:
            self._protocol.send_text(data)
        self._flush()

    def hold(self, held: bool) -> None:
        """Read nothing for now, or go on."""
        self._held = held
        self._hold()

    def drained(self) -> Awaitable[None]:
        """Wait until the client has read enough."""
        return self._connection.drained()

    def rested(self) -> None:
        """Nothing is in flight any more."""
        if self._draining:
            self._close(CloseCode.GOING_AWAY, "the server is shutting down")

    @property
    def _is_deaf(self) -> bool:
        """Whether nothing is read for now."""
        return self._held or self._unheeded > MOST_UNHEEDED

    def _hold(self) -> None:
        self._connection.hold(self._is_deaf)

    # -- frames ----------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._binary = frame.opcode is Opcode.BINARY
        elif frame.opcode is not Opcode.CONT:
            return  # pings are answered, and closing is done, by the protocol
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if not self._binary and not _is_text(data):
            self._protocol.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
        elif self._protocol.state is State.OPEN:
            self._calls.take(data, self._binary)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data == SEND_EOF:
                self._connection.hang_up()
            else:
                self._connection.write(data)

    def _close(self, code: CloseCode, reason: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    # -- keeping alive ---------------------------------------------------------------------------

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        if not self._heard and not self._is_deaf:
            self._protocol.fail(CloseCode.INTERNAL_ERROR, "no answer to a ping")
            self._flush()
            return
        if self._protocol.state is State.OPEN:
            self._heard = False
            self._protocol.send_ping(b"")
            self._flush()
        self._arm()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
