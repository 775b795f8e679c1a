import asyncio

from fakes import FakeTransport, clock, on_loop
from inferd.protocols.http2.frames import (
    ACK,
    DATA,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PING,
    frame,
    settings,
    window_update,
)
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.listener import LINGER_S, SWEEP_S, Http2Listener
from inferd.protocols.http2.transport import Http2Transport
from protocols.http2.client import (
    HEAD_BLOCK,
    LAST_BLOCK,
    Sink,
    call,
    frames_of,
    headers,
    payload_of,
)
from protocols.http2.serving import BEGIN


class CountingTransport(FakeTransport):
    """Counts what is written to it."""

    writes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        super().write(data)
        self.writes += 1


class Socket:
    """A transport between a fake socket and sinks."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self.sinks: list[Sink] = []
        self.listener = Http2Listener(self.accept, limits or Http2Limits())
        self.transport = Http2Transport(self.listener)
        self.socket = CountingTransport()
        self.transport.connection_made(self.socket)

    def accept(self, stream, fields) -> Sink:  # type: ignore[no-untyped-def]
        self.sinks.append(Sink(stream, fields))
        return self.sinks[-1]

    def feed(self, data: bytes) -> None:
        self.transport.data_received(data)
        self.socket.sent.clear()
        self.socket.writes = 0


@on_loop
async def test_what_a_turn_makes_is_written_once() -> None:
    socket = Socket()
    socket.feed(BEGIN + call(1) + call(3))
    for sink in socket.sinks:
        sink.stream.answer(HEAD_BLOCK, b"answer", LAST_BLOCK)
    assert socket.socket.writes == 0
    await asyncio.sleep(0)
    assert socket.socket.writes == 1
    assert len(frames_of(bytes(socket.socket.sent))) == 6


@on_loop
async def test_what_the_client_causes_is_written_at_once() -> None:
    socket = Socket()
    socket.transport.data_received(BEGIN)
    assert socket.socket.writes == 1


@on_loop
async def test_a_large_answer_goes_out_in_pieces_while_the_socket_takes_them() -> None:
    socket = Socket(Http2Limits(turn_bytes=100_000))
    socket.feed(BEGIN + settings({4: MAX_WINDOW}) + window_update(0, 2**30) + call(1))
    socket.sinks[0].stream.answer(HEAD_BLOCK, bytes(1_000_000), LAST_BLOCK)
    socket.transport.pause_writing()
    await asyncio.sleep(0)
    assert socket.socket.sent == b""
    socket.transport.resume_writing()
    await asyncio.sleep(0)
    assert len(payload_of(frames_of(bytes(socket.socket.sent)), 1)) == 1_000_000
    assert 5 < socket.socket.writes <= 10


@on_loop
async def test_trailers_are_not_lost_in_a_full_socket_that_is_drained() -> None:
    socket = Socket()
    socket.feed(BEGIN + call(1))
    stream = socket.sinks[0].stream
    stream.send_head(HEAD_BLOCK)
    stream.send(b"all")
    await asyncio.sleep(0)
    socket.transport.connection.drain(0.0)
    await asyncio.sleep(0)
    ping = frames_of(bytes(socket.socket.sent))[-1]
    assert ping[0] == PING
    socket.feed(frame(PING, ACK, 0, ping[3]))
    socket.transport.pause_writing()
    stream.finish(LAST_BLOCK)
    await asyncio.sleep(0)
    assert [kind for kind, *_ in frames_of(bytes(socket.socket.sent))] == [HEADERS]
    assert socket.socket.eof


@on_loop
async def test_a_client_that_does_not_close_is_left() -> None:
    socket = Socket()
    await socket.listener.start("127.0.0.1", 0)
    socket.feed(BEGIN)
    socket.transport.data_received(frame(DATA, 0, 1))
    assert frames_of(bytes(socket.socket.sent))[-1][0] == GOAWAY
    assert socket.socket.eof
    assert not socket.socket.aborted
    socket.transport.data_received(call(3))  # of no interest any more
    assert not socket.sinks
    transport = socket.transport
    assert transport.ended_s is not None
    transport.ended_s -= LINGER_S + 1
    await clock().pass_time(SWEEP_S)
    assert socket.socket.aborted
    await socket.listener.stop()


@on_loop
async def test_who_comes_while_we_leave_is_sent_away() -> None:
    socket = Socket()
    socket.listener.drain()
    late = Http2Transport(socket.listener)
    late_socket = FakeTransport()
    late.connection_made(late_socket)
    await asyncio.sleep(0)
    assert late_socket.eof


@on_loop
async def test_a_lost_socket_is_told_to_streams_and_to_the_listener() -> None:
    socket = Socket()
    socket.feed(BEGIN + headers(1))
    assert socket.transport.busy
    socket.transport.connection_lost(None)
    assert socket.sinks[0].told[0][0] == "gone"
    assert not socket.listener.connections
    assert not socket.transport.busy
    socket.sinks[0].stream.answer(HEAD_BLOCK, b"late", LAST_BLOCK)
    await asyncio.sleep(0)
    assert socket.socket.sent == b""
