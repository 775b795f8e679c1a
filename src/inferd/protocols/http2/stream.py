"""One stream of an HTTP/2 connection, as those who answer it see it.

It holds the client's window for this stream and what waits for it. It refuses to know how frames
are read, and what they mean to anybody.
"""

from collections import deque
from typing import TYPE_CHECKING, Protocol

from inferd.protocols.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LEAST_FRAME_BYTES,
    NO_ERROR,
    window_update,
)

if TYPE_CHECKING:
    from inferd.protocols.http2.connection import Http2Connection


class StreamSink(Protocol):
    """Who reads a stream. None of this is called any more once the stream is answered."""

    def data(self, chunk: memoryview | bytes) -> None:
        """A piece of the body, without padding; valid only during the call."""

    def ended(self) -> None:
        """The client has sent all; may come right behind the request's head."""

    def gone(self, code: int) -> None:
        """The stream was reset, by either side, or the connection ended, before all was answered.
        Called once at most, and never after a stream that was answered."""

    def writable(self) -> None:
        """All that waited has been sent. Called only after `send` has returned False."""


class _Nobody:
    """A sink that wants to know nothing."""

    def data(self, chunk: memoryview | bytes) -> None:
        """See StreamSink."""

    def ended(self) -> None:
        """See StreamSink."""

    def gone(self, code: int) -> None:
        """See StreamSink."""

    def writable(self) -> None:
        """See StreamSink."""


NOBODY: StreamSink = _Nobody()
"""Reads a stream that is not accepted yet, and one that has ended: whoever read it, and what that
holds, is let go of at once, and not when the collector finds it."""

_HEAD_FLAGS = END_HEADERS
_LAST_FLAGS = END_HEADERS | END_STREAM


class Http2Stream:
    """A request being answered."""

    __slots__ = (
        "_finishing", "_output", "_owed", "_queue", "_trailers", "_waits", "closed", "connection",
        "half_closed", "id", "is_ready", "left", "mark", "queued", "room", "sink", "window",
    )  # fmt: skip

    def __init__(
        self, connection: "Http2Connection", stream_id: int, window: int, room: int, left: int,
        half_closed: bool,
    ) -> None:  # fmt: skip
        self.id = stream_id
        self.connection = connection
        self.closed = False
        """Whether nothing can be sent any more."""
        self.half_closed = half_closed
        """Whether the client has sent all."""
        self.sink = NOBODY
        self.window = window
        """DATA that the client takes on this stream; below 0 when it has changed its mind."""
        self.room = room
        """DATA that the client may send."""
        self.left = left
        """What is missing of a body whose length is known; below 0 where it is not."""
        self.queued = 0
        self.is_ready = False
        self.mark: tuple[int, float] | None = None
        """How much waited when the time was looked at, and when that was."""
        self._output = connection.output
        self._queue: deque[memoryview] | None = None
        self._trailers: bytes | None = None
        self._waits = False
        self._finishing = False
        self._owed = 0

    # -- answering -------------------------------------------------------------------------------

    def answer(self, head: bytes, data: bytes, trailers: bytes) -> None:
        """A whole answer at once."""
        output = self._output
        size = len(data)
        if (
            size <= output.frame_bytes
            and size <= output.window
            and size <= self.window
            and size <= output.room
            and output.is_plain
            and len(head) <= LEAST_FRAME_BYTES
            and len(trailers) <= LEAST_FRAME_BYTES
            and not self.closed
            and not self._finishing
        ):
            output.window -= size
            output.room -= size
            output.sent += 1
            pack = HEAD.pack
            stream_id = self.id
            output.put(
                b"".join((
                    pack(len(head) << 8 | HEADERS, _HEAD_FLAGS, stream_id), head,
                    pack(size << 8 | DATA, 0, stream_id), data,
                    pack(len(trailers) << 8 | HEADERS, _LAST_FLAGS, stream_id), trailers,
                ))
            )  # fmt: skip
            self.connection.answered(self)
            return
        self.send_head(head)
        self.send(data)
        self.finish(trailers)

    def send_head(self, block: bytes) -> None:
        """An encoded header block; more follows."""
        if not self.closed and not self._finishing:
            self._output.headers(self.id, block, 0)

    def send(self, data: bytes | memoryview) -> bool:
        """A piece of the body, which must not change any more. False when so much waits that no
        more should be made until `writable`."""
        if self.closed or self._finishing:
            return True
        output = self._output
        size = len(data)
        if (
            not self.queued
            and not output.ready
            and size <= output.frame_bytes
            and size <= output.window
            and size <= self.window
            and size <= output.room
        ):
            if size:
                output.data(self, data, size)
            return True
        if size:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(memoryview(data))
            self.queued += size
            output.queued += size
            self.enlist()
        if output.paused or self.queued > output.high_water:
            self._waits = True
        return not self._waits

    def finish(self, block: bytes) -> None:
        """Trailers, once all that waits is sent; they end the stream."""
        if self.closed or self._finishing:
            return
        self._finishing = True
        if self.queued:
            self._trailers = block
        else:
            self._last(block)

    def refuse(self, block: bytes) -> None:
        """An answer that is nothing but headers."""
        if not self.closed and not self._finishing:
            self._last(block)

    def reset(self, code: int) -> None:
        """Break the stream off; its sink is told."""
        if not self.closed:
            self.connection.reset(self, code)

    def consumed(self, size: int) -> None:
        """So many bytes of `data` need no room any more."""
        if self.closed or self.half_closed:
            return
        window = self.connection.limits.stream_window_bytes
        self._owed = min(self._owed + size, window - self.room)
        if self._owed * 2 >= window:
            self._output.put(window_update(self.id, self._owed))
            self.room += self._owed
            self._owed = 0

    def _last(self, block: bytes) -> None:
        self._output.headers(self.id, block, END_STREAM)
        if not self.half_closed:
            # The client need send nothing more: it has its answer.
            self.connection.cut_off(self, NO_ERROR)
        self.connection.answered(self)

    # -- for the connection and its output -------------------------------------------------------

    @property
    def finishing(self) -> bool:
        """Whether all of the answer is known, though not sent."""
        return self._finishing

    def enlist(self) -> None:
        """Wait for a turn, if the stream's window is open."""
        if not self.is_ready and self.window > 0 and self.queued:
            self.is_ready = True
            self._output.ready.append(self)
            self._output.wake()

    def pump(self, most: int) -> None:
        """Send one frame of what waits, and wait for the next turn with the rest."""
        queue = self._queue
        most = min(most, self.window)
        if not queue or most <= 0:
            return
        data = queue[0]
        size = len(data)
        if size > most:
            queue[0] = data[most:]
            data, size = data[:most], most
        else:
            queue.popleft()
        self.queued -= size
        self._output.queued -= size
        self._output.data(self, data, size)
        if queue:
            self.enlist()
        elif self._trailers is not None:
            self._last(self._trailers)
        elif self._waits:
            self._waits = False
            self.connection.tell_writable(self)

    def drop(self) -> None:
        """The stream has ended."""
        self.closed = True
        if self.queued:
            self._output.queued -= self.queued
            self.queued = 0
        self._queue = None
