"""One HTTP/2 connection, pure: bytes and time in, streams to whoever accepts them, bytes out.

It holds the rules of RFC 9113 for a server. It refuses to know sockets, clocks and the event loop
(`transport.py`), and what a request means: an Accept gives each stream a StreamSink.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from inferd.protocols.http2.floods import Bucket, PingStrikes
from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    DEFAULT_TABLE_BYTES,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LEAST_FRAME_BYTES,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_ID,
    MAX_WINDOW,
    MOST_FRAME_BYTES,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTING,
    SETTINGS,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Fault,
    FrameCutter,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from inferd.protocols.http2.headers import Fields, HeaderDecoder, Malformed, Request, TooLarge
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.output import Frames, Output
from inferd.protocols.http2.stream import NOBODY, Http2Stream, StreamSink

_log = logging.getLogger("inferd.http2")

Accept = Callable[[Http2Stream, Fields], StreamSink]
"""Called when the head of a request is whole and valid. The fields are shared by all requests whose
heads are alike: they are to be read only."""

COPIED_BYTES = 2048
"""A payload of this size costs less as a copy than as a view."""
MAX_CUT_OFF = 1000
"""How many streams that we broke off are remembered: what still comes for them is no error."""
MAX_GAPS = 16

ELSEWHERE = "HTTP/1.1 is served on another port, 8000 by default"
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ",
            b"CONNECT ")  # fmt: skip
_DRAIN, _ALIVE = b"draining", b"alive???"


class Http2Connection:
    """The server's side of a connection."""

    __slots__ = (
        "_accept", "_accepts_until", "_alive_s", "_begun", "_block", "_block_ended", "_block_id",
        "_block_s", "_born_s", "_cut_off", "_cutter", "_decoder", "_drain_s", "_elsewhere",
        "_empty_frames", "_excused", "_expected", "_forgiven", "_gaps", "_got_settings", "_heard_s",
        "_idle_frames", "_idle_s", "_last_id", "_now_s", "_others", "_paused_s", "_pings",
        "_preface", "_resets", "_room", "_seen_id", "_settings", "_settings_acked", "_settings_s",
        "_spent", "_strikes", "_window_updates", "closing", "draining", "initial_window", "limits",
        "output", "peer", "peer_header_list_bytes", "shared", "streams",
    )  # fmt: skip

    def __init__(
        self, limits: Http2Limits, accept: Accept, now_s: float, elsewhere: str = ELSEWHERE
    ) -> None:
        self.limits = limits
        self.output = Output(limits)
        self.streams: dict[int, Http2Stream] = {}
        """Streams that are not answered yet."""
        self.initial_window = DEFAULT_WINDOW
        self.shared: Any = None
        """What those who answer its streams share."""
        self.peer: Any = None
        """The client's address, for logs."""
        self.peer_header_list_bytes = MAX_WINDOW
        """What the client takes of header fields."""
        self.closing = False
        """Nothing more will come: write what `take` gives and close."""
        self.draining = False
        self._accept = accept
        self._elsewhere = elsewhere
        # What has come.
        self._begun = False
        self._preface = b""
        self._cutter = FrameCutter(limits.max_frame_bytes)
        self._decoder = HeaderDecoder(limits.max_header_list_bytes)
        self._expected: int | None = SETTINGS
        """The one type of frame that may come next."""
        self._block = bytearray()
        self._block_id = 0
        self._block_ended = False
        self._room = limits.connection_window_bytes
        """DATA that the client may send on all streams together."""
        self._last_id = 0
        self._accepts_until = MAX_ID
        self._gaps: deque[range] = deque(maxlen=MAX_GAPS)
        self._cut_off: dict[int, None] = {}
        self._others = {
            PRIORITY: self._on_priority, RST_STREAM: self._on_rst_stream,
            SETTINGS: self._on_settings, PUSH_PROMISE: self._on_push_promise,
            PING: self._on_ping, GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update, CONTINUATION: self._on_continuation,
        }  # fmt: skip
        # How often.
        self._resets = Bucket(limits.resets, now_s)
        self._settings = Bucket(limits.settings, now_s)
        self._pings = Bucket(limits.pings, now_s)
        self._strikes = PingStrikes(limits.min_ping_interval_s, limits.max_ping_strikes)
        self._empty_frames = Bucket(limits.empty_frames, now_s)
        self._idle_frames = Bucket(limits.idle_frames, now_s)
        self._window_updates = Bucket(limits.window_updates, now_s)
        self._spent = self._forgiven = self._excused = 0
        # When.
        self._born_s = self._now_s = self._heard_s = self._idle_s = now_s
        self._seen_id = 0
        self._settings_s = now_s
        self._got_settings = self._settings_acked = False
        self._block_s: float | None = None
        self._alive_s: float | None = None
        self._paused_s: float | None = None
        self._drain_s = now_s

    # -- for the transport -----------------------------------------------------------------------

    @property
    def on_output(self) -> Callable[[], None]:
        """Told once when there is output that no `receive` has caused."""
        return self.output.on_output

    @on_output.setter
    def on_output(self, told: Callable[[], None]) -> None:
        self.output.on_output = told

    def receive(self, data: bytes, now_s: float) -> None:
        """Bytes from the client; `take` comes next."""
        if self.closing:
            return
        self._now_s = self._heard_s = now_s
        output = self.output
        output.told = True
        try:
            if not self._begun:
                data = self._begin(data)
            if data:
                for piece in self._cutter.pieces(data):
                    if not self.closing:
                        self._read(piece)
        except Fault as fault:
            self._fail(fault.code, fault.message.encode())
        if output.paused and output.backlog > self.limits.max_backlog_frames:
            self._fail(ENHANCE_YOUR_CALM, b"nothing is read of what is sent")

    def take(self) -> Frames:
        """Output since last asked."""
        return self.output.take()

    @property
    def has_more(self) -> bool:
        """Whether `take` would give more at once: it gives only so much at a time."""
        return self.output.has_more

    def pause(self) -> None:
        """The transport is full."""
        self.output.pause()

    def resume(self) -> None:
        """The transport has room again."""
        self._paused_s = None
        self.output.resume()

    def lost(self) -> None:
        """The socket is gone."""
        self.closing = True
        self._leave_streams(CANCEL)

    @property
    def open_streams(self) -> int:
        """How many requests are not answered yet."""
        return len(self.streams)

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken."""
        return not self.closing and self._accepts_until == MAX_ID

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or one may be on its way to a server that drains."""
        return not self.closing and (bool(self.streams) or self.draining)

    # -- what streams do -------------------------------------------------------------------------

    def answered(self, stream: Http2Stream) -> None:
        """All of an answer is sent."""
        self.streams.pop(stream.id, None)
        stream.drop()
        stream.sink = NOBODY
        if self.draining:
            self._close_if_drained()

    def cut_off(self, stream: Http2Stream, code: int) -> None:
        """Tell the client that no more is read of a stream."""
        self._reset_id(stream.id, code)

    def reset(self, stream: Http2Stream, code: int) -> None:
        """Break off a stream, and tell both sides."""
        self._reset_id(stream.id, code)
        self._leave(stream, code)

    def tell_writable(self, stream: Http2Stream) -> None:
        """What waited on a stream has been sent."""
        try:
            stream.sink.writable()
        except Exception:
            self._broke(stream)

    # -- frames ----------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> bytes:
        """Read the preface; gives what comes behind it."""
        self._preface += data
        got = self._preface
        if got.startswith(PREFACE):
            self._begun = True
            self._preface = b""
            self._introduce()
            return got[len(PREFACE) :]
        if PREFACE.startswith(got) or any(method.startswith(got) for method in _METHODS):
            return b""
        if got.startswith(_METHODS):
            text = f"This port speaks gRPC over HTTP/2; {self._elsewhere}.\n".encode()
            self.output.put(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(text), text)
            )
            self.closing = True
            return b""
        raise Fault(PROTOCOL_ERROR, "no HTTP/2 preface")

    def _introduce(self) -> None:
        limits = self.limits
        self._settings_s = self._now_s
        self.output.put(
            settings(
                {
                    MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
                    INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    MAX_FRAME_SIZE: limits.max_frame_bytes,
                    MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
                }
            )
        )
        if limits.connection_window_bytes > DEFAULT_WINDOW:
            more = limits.connection_window_bytes - DEFAULT_WINDOW
            self.output.put(window_update(0, more))

    def _read(self, data: bytes) -> None:
        """Frames; what is left in the end is the beginning of one."""
        streams = self.streams
        known = self._decoder.known
        unpack = HEAD.unpack_from
        max_bytes = self.limits.max_frame_bytes
        half = self.limits.connection_window_bytes // 2
        view: memoryview | None = None
        size = len(data)
        at = 0
        while size - at >= 9:
            word, flags, stream_id = unpack(data, at)
            length = word >> 8
            kind = word & 0xFF
            if length > max_bytes:
                raise Fault(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + 9
            end = start + length
            if self._expected is not None and kind != self._expected:
                raise Fault(PROTOCOL_ERROR, f"a frame of type {kind} where none may be")
            if end > size:
                break
            at = end
            stream_id &= MAX_ID

            if kind == DATA:
                left = self._room - length
                self._room = left if left >= half else self._give_back(left)
                stream = streams.get(stream_id)
                if stream is None or stream.half_closed:
                    self._on_stray_data(stream, stream_id, length)
                    continue
                stream.room -= length
                if stream.room < 0:
                    self._reset_for(stream, FLOW_CONTROL_ERROR)
                    continue
                if flags & PADDED:
                    start, end = self._padded(data, start, end)
                    stream.consumed(length - (end - start))
                if start == end and not flags & END_STREAM:
                    self._count_empty()
                if stream.left >= 0:
                    stream.left -= end - start
                    if stream.left < 0 or (flags & END_STREAM and stream.left):
                        self._reset_for(stream, PROTOCOL_ERROR)
                        continue
                if flags & END_STREAM:
                    stream.half_closed = True
                if stream.finishing:
                    continue
                try:
                    if end - start > COPIED_BYTES:
                        if view is None:
                            view = memoryview(data)
                        stream.sink.data(view[start:end])
                    elif end > start:
                        stream.sink.data(data[start:end])
                    if flags & END_STREAM and not stream.closed:
                        stream.sink.ended()
                except Exception:
                    self._broke(stream)
            elif kind == HEADERS:
                if flags & (PADDED | WITH_PRIORITY):
                    start, end = self._payload_of_headers(data, start, end, flags)
                if flags & END_HEADERS:
                    block = data[start:end]
                    ended = flags & END_STREAM != 0
                    request = known.get(block)
                    if request is None or stream_id <= self._last_id or not stream_id & 1:
                        self._on_block(stream_id, block, ended)
                    else:
                        self._open(stream_id, request, ended)
                else:
                    self._begin_block(stream_id, data[start:end], flags)
            else:
                handle = self._others.get(kind)
                if handle is None:
                    self._count_idle()
                else:
                    handle(flags, stream_id, data[start:end])
            if self.closing:
                return
        if at < size:
            self._cutter.keep(data[at:])

    def _padded(self, data: bytes, start: int, end: int) -> tuple[int, int]:
        """Where the payload is in a padded frame."""
        if start == end:
            raise Fault(FRAME_SIZE_ERROR, "a padded frame without its length of padding")
        start, padding = start + 1, data[start]
        if start + padding > end:
            raise Fault(PROTOCOL_ERROR, "padding longer than its frame")
        return start, end - padding

    def _payload_of_headers(self, data: bytes, start: int, end: int, flags: int) -> tuple[int, int]:
        if flags & PADDED:
            start, end = self._padded(data, start, end)
        if flags & WITH_PRIORITY:
            start += 5
            if start > end:
                raise Fault(FRAME_SIZE_ERROR, "HEADERS too short for their priority")
        return start, end

    # -- header blocks ---------------------------------------------------------------------------

    def _begin_block(self, stream_id: int, part: bytes, flags: int) -> None:
        """HEADERS that CONTINUATION follows."""
        if not stream_id:
            raise Fault(PROTOCOL_ERROR, "HEADERS on stream 0")
        self._block_id = stream_id
        self._block_ended = flags & END_STREAM != 0
        self._block_s = self._now_s
        self._expected = CONTINUATION
        self._gather(part)

    def _on_continuation(self, flags: int, stream_id: int, part: bytes) -> None:
        if self._expected != CONTINUATION or stream_id != self._block_id:
            raise Fault(PROTOCOL_ERROR, "CONTINUATION where none may be")
        if not part and not flags & END_HEADERS:
            self._count_empty()
        self._gather(part)
        if flags & END_HEADERS:
            block = bytes(self._block)
            self._block.clear()
            self._block_s = None
            self._expected = None
            self._on_block(stream_id, block, self._block_ended)

    def _gather(self, part: bytes) -> None:
        if len(self._block) + len(part) > 2 * self.limits.max_header_list_bytes:
            raise Fault(ENHANCE_YOUR_CALM, "a header block that does not end")
        self._block += part

    def _on_block(self, stream_id: int, block: bytes, ended: bool) -> None:
        """A whole header block: a request, or trailers."""
        if not stream_id & 1:
            raise Fault(PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, block, ended)
        elif stream_id <= self._last_id:
            if stream_id in self._cut_off or stream_id > self._accepts_until:
                self._decoder.skip(block)
            elif any(stream_id in gap for gap in self._gaps):
                raise Fault(PROTOCOL_ERROR, "a stream with a lower number than one before it")
            else:
                raise Fault(STREAM_CLOSED, "HEADERS on a stream that is closed")
        else:
            try:
                request = self._decoder.request(block)
            except Malformed:
                self._number(stream_id)
                self._reset_idle(stream_id, PROTOCOL_ERROR)
            except TooLarge:
                self._number(stream_id)
                self._reset_idle(stream_id, ENHANCE_YOUR_CALM)
            else:
                self._open(stream_id, request, ended)

    def _on_trailers(self, stream: Http2Stream, block: bytes, ended: bool) -> None:
        try:
            self._decoder.trailers(block)
        except (Malformed, TooLarge):
            self._reset_for(stream, PROTOCOL_ERROR)
            return
        if stream.half_closed:
            self._reset_for(stream, STREAM_CLOSED)
        elif not ended or stream.left > 0:
            self._reset_for(stream, PROTOCOL_ERROR)
        else:
            stream.half_closed = True
            if not stream.finishing:
                self._tell_ended(stream)

    def _open(self, stream_id: int, request: Request, ended: bool) -> None:
        """A new stream."""
        if stream_id - self._last_id != 2:
            self._number(stream_id)
        else:
            self._last_id = stream_id
        if stream_id > self._accepts_until:
            return
        fields, length = request
        streams = self.streams
        limits = self.limits
        if (
            len(streams) >= limits.max_concurrent_streams
            or self.output.queued > limits.max_queued_bytes
        ):
            self._reset_idle(stream_id, REFUSED_STREAM)
            return
        if ended and length > 0:
            self._reset_idle(stream_id, PROTOCOL_ERROR)
            return
        stream = Http2Stream(
            self, stream_id, self.initial_window, limits.stream_window_bytes, length, ended
        )
        streams[stream_id] = stream
        try:
            stream.sink = sink = self._accept(stream, fields)
            if ended and not stream.closed:
                sink.ended()
        except Exception:
            self._broke(stream)

    def _number(self, stream_id: int) -> None:
        """The highest stream so far; those that it leaves out will never be."""
        if stream_id - self._last_id > 2:
            self._gaps.append(range(self._last_id + 1, stream_id))
        self._last_id = stream_id

    # -- other frames ----------------------------------------------------------------------------

    def _on_stray_data(self, stream: Http2Stream | None, stream_id: int, length: int) -> None:
        """DATA for no stream, or for one that the client had ended."""
        if stream is not None:
            self._reset_for(stream, STREAM_CLOSED)
        elif self._is_idle(stream_id):
            raise Fault(PROTOCOL_ERROR, f"DATA on stream {stream_id}")
        elif stream_id in self._cut_off or stream_id > self._accepts_until:
            if not length:
                self._count_idle()
        else:
            self._reset_idle(stream_id, STREAM_CLOSED)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise Fault(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            stream = self.streams.get(stream_id)
            if stream is None:
                raise Fault(FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
            self._reset_for(stream, FRAME_SIZE_ERROR)
        self._count_idle()

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        if self._is_idle(stream_id):
            raise Fault(PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._count_idle()
        else:
            self._leave(stream, int.from_bytes(payload, "big"))
            self._count_reset()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload or not self._got_settings:
                raise Fault(
                    FRAME_SIZE_ERROR if payload else PROTOCOL_ERROR, "SETTINGS of a wrong kind"
                )
            self._settings_acked = True
            self._count_idle()
            return
        if len(payload) % 6:
            raise Fault(FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if not self._settings.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too many SETTINGS")
        if not self._got_settings:
            self._got_settings = True
            self._expected = None
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self.output.put(frame(SETTINGS, ACK, 0))

    def _set(self, key: int, value: int) -> None:
        """One setting of the client's."""
        output = self.output
        if key == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Fault(FLOW_CONTROL_ERROR, "a window beyond 2^31-1")
            more = value - self.initial_window
            self.initial_window = value
            for stream in self.streams.values():
                self._widen(stream, more)
        elif key == MAX_FRAME_SIZE:
            if not LEAST_FRAME_BYTES <= value <= MOST_FRAME_BYTES:
                raise Fault(PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
            output.frame_bytes = min(value, self.limits.send_frame_bytes)
            output.header_frame_bytes = value
        elif key == HEADER_TABLE_SIZE:
            if value < DEFAULT_TABLE_BYTES:
                output.shrink_table()
        elif key == MAX_HEADER_LIST_SIZE:
            self.peer_header_list_bytes = value
        elif key == ENABLE_PUSH and value > 1:
            raise Fault(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")

    def _widen(self, stream: Http2Stream, more: int) -> None:
        """Change a stream's window by SETTINGS."""
        stream.window += more
        if stream.window > MAX_WINDOW:
            raise Fault(FLOW_CONTROL_ERROR, "a window beyond 2^31-1")
        stream.enlist()

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Fault(PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Fault(FRAME_SIZE_ERROR, "PING of a wrong length")
        if flags & ACK:
            self._count_idle()
            if payload == _DRAIN and self.draining:
                self._stop_accepting()
            return
        if self._forgiven != self.output.sent:
            self._forgiven = self.output.sent
            self._strikes.forgive()
        if not self._strikes.ping(self._now_s) or not self._pings.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too_many_pings")
        self.output.put(frame(PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """The client will close, once it has its answers."""
        if stream_id:
            raise Fault(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Fault(FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        self._count_idle()

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        output = self.output
        if self._spent != output.sent:
            self._window_updates.give(4 * (output.sent - self._spent))
            self._spent = output.sent
        if not self._window_updates.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too many WINDOW_UPDATE")
        if not stream_id:
            if not more or output.window + more > MAX_WINDOW:
                code = FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR
                raise Fault(code, f"a window of {output.window} and {more} more")
            output.window += more
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise Fault(PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}")
        elif not more:
            self._reset_for(stream, PROTOCOL_ERROR)
        elif stream.window + more > MAX_WINDOW:
            self._reset_for(stream, FLOW_CONTROL_ERROR)
        else:
            stream.window += more
            stream.enlist()

    def _give_back(self, left: int) -> int:
        """Open the connection's window again: what came is at its stream, or of no interest."""
        if left < 0:
            raise Fault(FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        window = self.limits.connection_window_bytes
        self.output.put(window_update(0, window - left))
        return window

    def _is_idle(self, stream_id: int) -> bool:
        """Whether no such stream has been."""
        return not stream_id & 1 or stream_id > self._last_id

    # -- counting --------------------------------------------------------------------------------

    def _count_reset(self) -> None:
        if self._excused != self.output.sent:
            self._resets.give(self.output.sent - self._excused)
            self._excused = self.output.sent
        if not self._resets.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too many streams end before they are answered")

    def _count_empty(self) -> None:
        if not self._empty_frames.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too many empty frames")

    def _count_idle(self) -> None:
        if not self._idle_frames.take(self._now_s):
            raise Fault(ENHANCE_YOUR_CALM, "too many frames to no end")

    # -- streams that end ------------------------------------------------------------------------

    def _reset_id(self, stream_id: int, code: int) -> None:
        cut_off = self._cut_off
        cut_off[stream_id] = None
        if len(cut_off) > MAX_CUT_OFF:
            del cut_off[next(iter(cut_off))]
        self.output.put(rst_stream(stream_id, code))

    def _reset_idle(self, stream_id: int, code: int) -> None:
        """Refuse a stream of which nobody has heard; clients may not have that done for ever."""
        self._reset_id(stream_id, code)
        self._count_reset()

    def _reset_for(self, stream: Http2Stream, code: int) -> None:
        """Break off a stream for what the client did on it."""
        self.reset(stream, code)
        self._count_reset()

    def _leave(self, stream: Http2Stream, code: int) -> None:
        """A stream that will not be answered: tell who reads it."""
        self.streams.pop(stream.id, None)
        stream.drop()
        if self.draining:
            self._close_if_drained()
        self._tell_gone(stream, code)

    def _leave_streams(self, code: int) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self.output.ready.clear()
        for stream in streams:
            stream.drop()
        for stream in streams:
            self._tell_gone(stream, code)

    def _tell_gone(self, stream: Http2Stream, code: int) -> None:
        sink, stream.sink = stream.sink, NOBODY
        try:
            sink.gone(code)
        except Exception:
            _log.exception("a stream's end could not be told")

    def _tell_ended(self, stream: Http2Stream) -> None:
        try:
            stream.sink.ended()
        except Exception:
            self._broke(stream)

    def _broke(self, stream: Http2Stream) -> None:
        """Whoever reads a stream has raised."""
        _log.exception("a stream could not be answered")
        stream.reset(INTERNAL_ERROR)

    def _fail(self, code: int, message: bytes) -> None:
        """End the connection for what the client did."""
        if not self.closing:
            self.closing = True
            last_id = min(self._last_id, self._accepts_until)
            self.output.put(goaway(last_id, code, message))
            self._leave_streams(code or CANCEL)

    # -- leaving ---------------------------------------------------------------------------------

    def drain(self, now_s: float) -> None:
        """Ask the client to leave: what it has sent until it hears of it is answered."""
        if self.draining or self.closing:
            return
        self.draining = True
        self._drain_s = now_s
        if not self._begun:
            self.closing = True
            self.output.wake()
            return
        self.output.put(goaway(MAX_ID, NO_ERROR) + frame(PING, 0, 0, _DRAIN))

    def _stop_accepting(self) -> None:
        """The client has heard that it is to leave."""
        if self._accepts_until == MAX_ID:
            self._accepts_until = self._last_id
            self.output.put(goaway(self._last_id, NO_ERROR))
            self._close_if_drained()

    def _close_if_drained(self) -> None:
        if not self.streams and self._accepts_until != MAX_ID:
            self.closing = True
            self.output.wake()

    # -- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Look at what takes too long; called a few times a second."""
        if self.closing:
            return
        self._now_s = now_s
        limits = self.limits
        if not self._got_settings:
            if now_s - self._born_s > limits.preface_timeout_s:
                self._fail(SETTINGS_TIMEOUT, b"no preface in time")
        elif not self._settings_acked and now_s - self._settings_s > limits.preface_timeout_s:
            self._fail(SETTINGS_TIMEOUT, b"SETTINGS were not acknowledged in time")
        elif self._is_late(now_s):
            self._fail(ENHANCE_YOUR_CALM, b"a frame or header block took too long")
        elif self.output.paused and self._is_stuck(now_s):
            self._fail(ENHANCE_YOUR_CALM, b"nothing is read of what is sent")
        elif self._is_silent(now_s):
            self._fail(NO_ERROR, b"keep-alive ping was not answered")
        else:
            self._look_at_waiting(now_s)
            if self.draining:
                self._tick_drain(now_s)
            elif self._is_done(now_s):
                self.drain(now_s)

    def _is_late(self, now_s: float) -> bool:
        limit_s = self.limits.block_timeout_s
        if self._block_s is not None and now_s - self._block_s > limit_s:
            return True
        return self._cutter.is_inside and now_s - self._heard_s > limit_s

    def _is_stuck(self, now_s: float) -> bool:
        if self._paused_s is None:
            self._paused_s = now_s
        return now_s - self._paused_s > self.limits.stuck_s

    def _is_silent(self, now_s: float) -> bool:
        """Ping a client of which nothing is heard; whether it is silent after that, too."""
        limits = self.limits
        alive_s = self._alive_s
        if alive_s is not None:
            if self._heard_s < alive_s:
                return now_s - alive_s > limits.keep_alive_timeout_s
            self._alive_s = None
        elif limits.keep_alive_s and now_s - self._heard_s > limits.keep_alive_s:
            self._alive_s = now_s
            self.output.put(frame(PING, 0, 0, _ALIVE))
        return False

    def _is_done(self, now_s: float) -> bool:
        """Whether the connection has been idle for long, or has been here for long."""
        limits = self.limits
        if self.streams or self._last_id != self._seen_id:
            self._seen_id = self._last_id
            self._idle_s = now_s
        if limits.max_age_s and now_s - self._born_s > limits.max_age_s:
            return True
        return bool(limits.idle_s) and now_s - self._idle_s > limits.idle_s

    def _tick_drain(self, now_s: float) -> None:
        limits = self.limits
        waited_s = now_s - self._drain_s
        if waited_s > limits.drain_ping_s:
            self._stop_accepting()
        if limits.max_age_grace_s and waited_s > limits.max_age_grace_s and self._is_old(now_s):
            self._fail(NO_ERROR, b"max_age")

    def _is_old(self, now_s: float) -> bool:
        limits = self.limits
        return bool(limits.max_age_s) and now_s - self._born_s > limits.max_age_s

    def _look_at_waiting(self, now_s: float) -> None:
        """Reset streams whose answers wait for a window that does not open."""
        stall_s = self.limits.stall_s
        if not self.output.queued or not stall_s:
            return
        for stream in list(self.streams.values()):
            mark = stream.mark
            if not stream.queued:
                stream.mark = None
            elif mark is None or mark[0] != stream.window:
                stream.mark = stream.window, now_s
            elif now_s - mark[1] > stall_s:
                self.reset(stream, CANCEL)
