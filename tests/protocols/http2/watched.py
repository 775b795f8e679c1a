"""A connection with sinks that answer at random, and all that must hold of it whatever comes."""

import random

from inferd.protocols.http2.connection import Http2Connection
from inferd.protocols.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from inferd.protocols.http2.headers import Fields
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.stream import Http2Stream
from protocols.http2.client import HEAD_BLOCK, LAST_BLOCK, Frame, frames_of


class WatchedSink:
    """Answers in one of the ways there are, which its stream's number decides, and notes in one
    list for all what it is told."""

    def __init__(self, stream: Http2Stream, notes: list[object], reply: random.Random) -> None:
        self.stream = stream
        self.notes = notes
        self.way = reply.choice(("whole", "pieces", "refuse", "reset", "never", "early"))
        self.size = reply.choice((0, 1, 50, 3000, 40_000, 150_000))
        self.ends = 0
        self.was_gone = False
        self.has_ended = False
        self.waits = False
        self.left = 5

    def data(self, chunk: memoryview | bytes) -> None:
        assert not self.was_gone
        assert not self.has_ended
        assert len(chunk) > 0
        self.notes.append((self.stream.id, bytes(chunk)))
        self.stream.consumed(len(chunk))
        if self.way == "early":
            self.stream.refuse(LAST_BLOCK)

    def ended(self) -> None:
        assert not self.was_gone
        assert not self.has_ended
        self.has_ended = True
        self.notes.append((self.stream.id, "ended"))
        if self.way == "whole":
            self.stream.answer(HEAD_BLOCK, bytes(self.size), LAST_BLOCK)
        elif self.way == "pieces":
            self.stream.send_head(HEAD_BLOCK)
            self.go_on()
        elif self.way == "refuse":
            self.stream.refuse(LAST_BLOCK)
        elif self.way == "reset":
            self.stream.reset(2)

    def go_on(self) -> None:
        while self.left:
            self.left -= 1
            if not self.stream.send(bytes(self.size)):
                self.waits = True
                return
        self.stream.finish(LAST_BLOCK)

    def writable(self) -> None:
        assert not self.was_gone
        assert self.waits
        self.waits = False
        self.go_on()

    def gone(self, code: int) -> None:
        assert not self.was_gone
        assert self.stream.closed
        self.was_gone = True
        self.notes.append((self.stream.id, "gone", code))


class Watched:
    """Feeds a connection and looks at it all the time."""

    def __init__(self, limits: Http2Limits, seed: int) -> None:
        self.seed = seed
        self.limits = limits
        self.notes: list[object] = []
        self.sinks: dict[int, WatchedSink] = {}
        self.output = b""
        self.frames: list[Frame] = []
        self.connection = Http2Connection(limits, self.accept, 0.0)

    def accept(self, stream: Http2Stream, fields: Fields) -> WatchedSink:
        assert stream.id not in self.sinks
        assert stream.id & 1
        assert {b":method", b":path", b":scheme"} <= fields.keys()
        self.notes.append((stream.id, dict(fields)))
        sink = WatchedSink(stream, self.notes, random.Random(self.seed + stream.id))
        self.sinks[stream.id] = sink
        return sink

    def feed(self, data: bytes, now_s: float = 0.0) -> None:
        self.connection.receive(data, now_s)
        self.take()

    def take(self) -> None:
        connection = self.connection
        while True:
            self.output += b"".join(connection.take())
            if not connection.has_more:
                break
        self.check()

    def check(self) -> None:
        """What must hold at any time."""
        connection = self.connection
        output = connection.output
        assert 0 <= output.window <= MAX_WINDOW
        assert len(connection.streams) <= self.limits.max_concurrent_streams
        queued = 0
        for stream in connection.streams.values():
            assert -MAX_WINDOW <= stream.window <= MAX_WINDOW
            assert 0 <= stream.room <= self.limits.stream_window_bytes
            assert not stream.closed
            queued += stream.queued
        assert output.queued == queued
        assert len(connection._cut_off) <= 1000
        assert len(connection._block) <= 2 * self.limits.max_header_list_bytes
        assert len(connection._cutter._kept) < self.limits.max_frame_bytes + 9
        if connection.closing:
            assert not connection.streams

    def ends(self) -> None:
        """Close; every stream has ended once."""
        self.connection.lost()
        self.frames = frames_of(self.output) if not self.output.startswith(b"HTTP/1.1") else []
        ended = {
            sid for kind, flags, sid, _ in self.frames if kind == HEADERS and flags & END_STREAM
        }
        for stream_id, sink in self.sinks.items():
            assert sink.stream.closed
            assert sink.was_gone != (stream_id in ended), stream_id
        once: set[int] = set()
        reset: set[int] = set()
        for kind, flags, sid, _ in self.frames:
            if kind in (DATA, HEADERS):
                assert sid not in once, "sent behind the end"
                assert sid not in reset, "sent behind a reset"
                if flags & END_STREAM:
                    once.add(sid)
            elif kind == RST_STREAM:
                reset.add(sid)
        last_ids = [int.from_bytes(p[:4], "big") for kind, _, _, p in self.frames if kind == GOAWAY]
        assert last_ids == sorted(last_ids, reverse=True)
        assert len(last_ids) <= 3

    def granted(self, sent: list[Frame]) -> None:
        """No more DATA than the client's frames have ever granted."""
        first = most = DEFAULT_WINDOW
        connection = DEFAULT_WINDOW
        more: dict[int, int] = {}
        for kind, flags, sid, payload in sent:
            if kind == SETTINGS and not flags:
                for at in range(0, len(payload), 6):
                    if int.from_bytes(payload[at : at + 2], "big") == INITIAL_WINDOW_SIZE:
                        first = int.from_bytes(payload[at + 2 : at + 6], "big")
                        most = max(most, first)
            elif kind == WINDOW_UPDATE:
                step = int.from_bytes(payload, "big")
                if sid:
                    more[sid] = more.get(sid, 0) + step
                else:
                    connection += step
        got: dict[int, int] = {}
        for kind, _, sid, payload in self.frames:
            if kind == DATA:
                got[sid] = got.get(sid, 0) + len(payload)
        assert sum(got.values()) <= connection
        for sid, size in got.items():
            assert size <= most + more.get(sid, 0)
