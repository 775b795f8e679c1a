"""What one HTTP/2 connection may cost, in bytes, counts and seconds."""

from dataclasses import dataclass

from inferd.protocols.http2.floods import Rate
from inferd.protocols.http2.frames import (
    DEFAULT_WINDOW,
    LEAST_FRAME_BYTES,
    MAX_WINDOW,
    MOST_FRAME_BYTES,
)

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Sizes in bytes, times in seconds; a time of 0 is no limit, except where it is said.

    What a connection holds at most: of requests, `stream_window_bytes` a stream that its reader
    has not consumed; of answers, `high_water` and one message a stream, of all streams together
    no new stream is taken beyond `max_queued_bytes`.
    """

    max_concurrent_streams: int = 1024
    stream_window_bytes: int = MIB
    """How far a client may send ahead on a stream; at least 65,535."""
    connection_window_bytes: int = 4 * MIB
    """The same for all streams together; at least 65,535."""
    max_frame_bytes: int = 64 * KIB
    """The longest frame that a client may send; at least 16,384."""
    max_header_list_bytes: int = 16 * KIB
    """A request whose fields, with 32 bytes for each, are larger is refused. One of twice the size,
    decoded or not, ends the connection."""

    send_frame_bytes: int = 64 * KIB
    """The longest DATA frame that we send, if the client allows as much: streams take turns by
    the frame."""
    high_water: int = 64 * KIB
    """A stream on which more than this waits to be sent should make no more."""
    max_queued_bytes: int = 64 * MIB
    """While more than this waits to be sent, new streams are refused."""
    turn_bytes: int = 256 * KIB
    """DATA that goes to the socket at a time."""
    max_backlog_frames: int = 10_000
    """Frames that wait for a client that reads nothing and goes on asking."""

    resets: Rate = (1000, 100)
    """Streams that end before they are answered, reset by the client, or by us for its errors,
    beyond one for each answer and DATA frame sent."""
    settings: Rate = (100, 10)
    pings: Rate = (1000, 1000)
    empty_frames: Rate = (100, 10)
    """DATA and CONTINUATION that carry nothing."""
    idle_frames: Rate = (10_000, 1000)
    """PRIORITY, unknown frames, and frames for streams that are closed."""
    window_updates: Rate = (10_000, 1000)
    """WINDOW_UPDATE beyond four for each answer and DATA frame sent."""

    preface_timeout_s: float = 10.0
    """From the connection to the client's first SETTINGS, and from ours to its acknowledgement."""
    block_timeout_s: float = 10.0
    """From the beginning of a header block to its end, and of silence within a frame."""
    idle_s: float = 600.0
    """A connection without streams is asked to leave after this."""
    stuck_s: float = 60.0
    """A client that takes nothing from a full socket is left after this."""
    stall_s: float = 600.0
    """A stream whose answer waits, and whose window does not open, is reset after this."""
    keep_alive_s: float = 300.0
    """A silent client is pinged after this..."""
    keep_alive_timeout_s: float = 20.0
    """...and left, if it stays silent, after this."""
    max_age_s: float = 0.0
    """A connection is asked to leave after this..."""
    max_age_grace_s: float = 0.0
    """...and closed, whatever runs on it, after this."""
    drain_ping_s: float = 1.0
    """How long a client that is asked to leave may take to answer the ping that goes with it."""
    min_ping_interval_s: float = 300.0
    """Pings closer than this are strikes, as gRPC's servers count them."""
    max_ping_strikes: int = 2

    def __post_init__(self) -> None:
        for window in (self.stream_window_bytes, self.connection_window_bytes):
            if not DEFAULT_WINDOW <= window <= MAX_WINDOW:
                raise ValueError(f"a window of {window} bytes is not in 65535..2147483647")
        if not LEAST_FRAME_BYTES <= self.max_frame_bytes <= MOST_FRAME_BYTES:
            raise ValueError(f"a frame of {self.max_frame_bytes} bytes is not in 16384..16777215")
