"""What a connection sends: frames in order, DATA as windows allow, streams in turns.

It refuses to know what is received.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from inferd.protocols.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    HEAD,
    LEAST_FRAME_BYTES,
    header_frames,
)
from inferd.protocols.http2.headers import TABLE_SIZE_ZERO
from inferd.protocols.http2.limits import Http2Limits

if TYPE_CHECKING:
    from inferd.protocols.http2.stream import Http2Stream

Frames = list[bytes | memoryview]


class Output:
    """Frames that wait for the transport, and streams that wait for windows."""

    __slots__ = (
        "_frames", "_shrinks_table", "_turn_bytes", "frame_bytes", "header_frame_bytes",
        "high_water", "on_output", "paused", "queued", "ready", "room", "sent", "told", "window",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits) -> None:
        self._frames: Frames = []
        self._shrinks_table = False
        self._turn_bytes = limits.turn_bytes
        self.on_output: Callable[[], None] = _nobody
        self.told = False
        """Whether somebody is about to take what there is."""
        self.window = DEFAULT_WINDOW
        """DATA that the client takes on the whole connection; a stream has one of its own."""
        self.frame_bytes = min(LEAST_FRAME_BYTES, limits.send_frame_bytes)
        self.header_frame_bytes = LEAST_FRAME_BYTES
        self.high_water = limits.high_water
        self.room = limits.turn_bytes
        """DATA that may join the frames until they are taken next; 0 while paused."""
        self.paused = False
        self.ready: deque[Http2Stream] = deque()
        """Streams that wait, though their own windows are open."""
        self.queued = 0
        """Bytes that wait on all streams."""
        self.sent = 0
        """Answers and DATA frames sent."""

    def put(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._frames.append(frame)
        if not self.told:
            self.wake()

    def wake(self) -> None:
        """Have somebody take what there is."""
        if not self.told:
            self.told = True
            self.on_output()

    def headers(self, stream_id: int, block: bytes, flags: int) -> None:
        """Send a header block."""
        if self._shrinks_table:
            self._shrinks_table = False
            block = TABLE_SIZE_ZERO + block
        self.sent += 1
        self.put(header_frames(stream_id, block, flags, self.header_frame_bytes))

    def data(self, stream: "Http2Stream", data: bytes | memoryview, size: int) -> None:
        """Send one frame of DATA; the caller has looked at windows, room and size."""
        self.window -= size
        self.room -= size
        stream.window -= size
        self.sent += 1
        self._frames.append(HEAD.pack(size << 8 | DATA, 0, stream.id))
        self._frames.append(data)
        if not self.told:
            self.wake()

    @property
    def is_plain(self) -> bool:
        """Whether what is sent now may pass as it is: nobody waits, nothing goes before it."""
        return not (self.ready or self._shrinks_table)

    def shrink_table(self) -> None:
        """The client wants a smaller table of header fields than it is: have it be empty."""
        self._shrinks_table = True

    # -- taking ----------------------------------------------------------------------------------

    def take(self) -> Frames:
        """All that may be sent now."""
        self.told = True
        if self.ready:
            self._pump()
        frames, self._frames = self._frames, []
        self.told = False
        self.room = 0 if self.paused else self._turn_bytes
        return frames

    @property
    def has_more(self) -> bool:
        """Whether `take` would give DATA again."""
        return bool(self.ready) and self.window > 0 and self.room > 0

    @property
    def backlog(self) -> int:
        """How many frames have not been taken."""
        return len(self._frames)

    def pause(self) -> None:
        """Hold DATA back."""
        self.paused = True
        self.room = 0

    def resume(self) -> None:
        """Send DATA again."""
        self.paused = False
        self.room = self._turn_bytes
        if self.ready:
            self.wake()

    def _pump(self) -> None:
        """Give each stream that waits a frame, again and again, while there is window and room."""
        ready = self.ready
        while ready and self.room > 0 and self.window > 0:
            stream = ready.popleft()
            stream.is_ready = False
            stream.pump(min(self.frame_bytes, self.window))


def _nobody() -> None:
    """Nobody wants to be told."""
