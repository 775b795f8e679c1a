"""Every call ends once and says how, whatever its handler does; without sockets."""

import asyncio
import logging
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hpack import Decoder

from fakes import clock, on_loop, turns
from inferd.protocols.grpc.call import UnaryCall
from inferd.protocols.grpc.framing import MIN_COMPRESS_BYTES, Message, framed
from inferd.protocols.grpc.head import CallHead
from inferd.protocols.grpc.methods import CallContext, Method, Requests
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.http2.frames import DATA, END_STREAM, HEADERS, RST_STREAM, frame
from inferd.protocols.http2.stream import Http2Stream
from protocols.http2.client import Client, Frame, data, headers, payload_of, request, updates_of

MOST = 1 << 20
PIECE = 60_000
PATH = "/test.Endings/"


def calling(**methods: Any) -> tuple[Client, GrpcRouter]:
    """A client of methods by name; generators are streams, classes are calls of their own."""
    table, direct = [], {}
    for name, handler in methods.items():
        kind: Any = "bidi" if name.startswith("stream") else "unary"
        table.append(Method(PATH + name, kind, handler))
        if isinstance(handler, type):
            direct[PATH + name] = handler
    router = GrpcRouter(table, direct, MOST, access_log=True)
    return Client(sink=router).begin(), router  # type: ignore[arg-type]


def begun(name: str, stream_id: int = 1, **fields: bytes) -> bytes:
    return headers(stream_id, request(_path=(PATH + name).encode(), **fields))


def pieces(message: bytes, stream_id: int = 1) -> list[bytes]:
    """A message in several frames, without the end of its stream."""
    whole = framed(message)
    cuts = range(0, len(whole), PIECE)
    return [data(stream_id, whole[start : start + PIECE]) for start in cuts]


def whole(name: str, message: bytes = b"", stream_id: int = 1, **fields: bytes) -> bytes:
    return begun(name, stream_id, **fields) + data(stream_id, framed(message), END_STREAM)


def ending(frames: list[Frame], stream_id: int = 1) -> dict[bytes, bytes]:
    """All fields of the one answer on a stream, which must have ended."""
    blocks = [(f, p) for kind, f, sid, p in frames if kind == HEADERS and sid == stream_id]
    assert [bool(flags & END_STREAM) for flags, _ in blocks] == [False] * (len(blocks) - 1) + [True]
    fields: dict[bytes, bytes] = {}
    for _, block in blocks:
        fields |= dict(Decoder().decode(block, raw=True))
    return fields


async def settled(client: Client, sent: bytes = b"") -> list[Frame]:
    frames = client.send(sent)
    await turns(8)
    return frames + client.taken()


# -- what handlers raise -----------------------------------------------------------------------


async def timed_out(data: Any, context: CallContext) -> bytes:
    raise TimeoutError("of a file that the handler reads")


async def given_up(data: Any, context: CallContext) -> bytes:
    waits: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    waits.cancel()
    return await waits


async def wait(data: Any, context: CallContext) -> bytes:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def stream_timed_out(requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
    async for message in requests:
        yield bytes(message)
        raise TimeoutError


async def stream_given_up(requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
    async for message in requests:
        yield bytes(message)
        await given_up(message, context)


@pytest.mark.parametrize(
    ("handler", "status", "logged"),
    [(timed_out, b"13", 1), (given_up, b"1", 0), (stream_timed_out, b"13", 1),
     (stream_given_up, b"1", 0)],
)  # fmt: skip
@pytest.mark.parametrize("fields", [{}, {"grpc_timeout": b"1H"}])
@on_loop
async def test_what_a_handler_raises_of_its_own_is_no_deadline(
    handler: Any,
    status: bytes,
    logged: int,
    fields: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = handler.__name__
    client, router = calling(**{name: handler})
    fields_of = ending(await settled(client, whole(name, b"a", **fields)))
    assert fields_of[b"grpc-status"] == status
    assert len(caplog.records) == logged
    assert sum(router.calls.values()) == 1


@pytest.mark.parametrize("timeout", [b"0n", b"1n", b"0H"])
@on_loop
async def test_a_deadline_that_has_passed_is_over_at_once(timeout: bytes) -> None:
    client, _ = calling(wait=wait)
    fields = ending(await settled(client, whole("wait", grpc_timeout=timeout)))
    assert fields[b"grpc-status"] == b"4"


@on_loop
async def test_a_deadline_counts_from_the_head_of_the_call_on() -> None:
    client, _ = calling(wait=wait)
    sent = begun("wait", grpc_timeout=b"1m")
    client.send(sent)
    await asyncio.sleep(0.002)  # real time: calls look at the machine's clock
    fields = ending(await settled(client, data(1, framed(b""), END_STREAM)))
    assert fields[b"grpc-status"] == b"4"


@pytest.mark.parametrize("timeout", [b"99999999H", b"99999999S"])
@on_loop
async def test_a_deadline_may_be_far_off(timeout: bytes) -> None:
    client, router = calling(wait=wait)
    client.send(whole("wait", grpc_timeout=timeout))
    await clock().pass_time(3600)
    assert client.taken() == []
    client.send(frame(RST_STREAM, 0, 1, bytes(4)))
    await turns(3)
    assert router.calls == {(PATH + "wait", "CANCELLED"): 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x-a", b"two\r\nlines"), (b"x-a", b"\xe4"), (b"x-a", b" a"), (b"x-a", b"a\x00"),
     (b"X-A", b"a"), (b"", b"a"), (b"grpc-status", b"0"), (b":status", b"200"),
     (b"grpc-a-bin", b"a")],
)  # fmt: skip
@on_loop
async def test_trailing_metadata_that_grpc_does_not_allow_is_the_handlers_fault(
    name: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def say(data: Any, context: CallContext) -> bytes:
        context.set_trailing(name, value)
        return b""

    client, _ = calling(say=say)
    fields = ending(await settled(client, whole("say")))
    assert fields[b"grpc-status"] == b"13"
    assert fields[b"grpc-message"] == b"internal error: ValueError"
    assert len(caplog.records) == 1


class Broken(UnaryCall):
    """Its work on a thread raises, or what comes behind it."""

    def __init__(self, router: GrpcRouter, stream: Http2Stream, head: CallHead) -> None:
        super().__init__(router, stream, head)

    def begin(self, message: Message) -> None:
        if message == b"there":
            self.on_thread(self.send, lambda: 1 / 0)  # type: ignore[arg-type]
        else:
            self.on_thread(lambda found: self.send(found, 1 / 0), bytes)  # type: ignore[arg-type]

    def cancel(self) -> None:
        """There is nothing to take back."""


@pytest.mark.parametrize("where", [b"there", b"here"])
@on_loop
async def test_work_on_a_thread_that_fails_is_answered(
    where: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client, router = calling(broken=Broken)
    client.send(whole("broken", where))
    async with asyncio.timeout(5):
        while not router.calls:
            await asyncio.sleep(0)
    assert ending(client.taken())[b"grpc-message"] == b"internal error: ZeroDivisionError"
    assert len(caplog.records) == 1


@on_loop
async def test_every_end_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client, router = calling(given_up=given_up, wait=wait, stream_echo=stream_echo)
    caplog.set_level(logging.INFO, "inferd.access")
    client.send(whole("wait", stream_id=1) + begun("stream_echo", 3) + begun("wait", 5))
    await settled(client, whole("given_up", stream_id=7) + whole("nope", stream_id=9))
    await settled(client, whole("stream_echo", b"a", 11, x_request_id=b"mine"))
    for stream_id in (1, 3):
        client.send(frame(RST_STREAM, 0, stream_id, bytes(4)))
    client.connection.lost()
    await turns(3)
    names = ["nope", "given_up", "stream_echo", "wait", "stream_echo", "wait"]
    statuses = ["UNIMPLEMENTED", "CANCELLED", "OK", "CANCELLED", "CANCELLED", "CANCELLED"]
    lines: list[Any] = caplog.records
    assert [line.method for line in lines] == [PATH + name for name in names]
    assert [line.status for line in lines] == statuses
    assert lines[2].request_id == "mine"
    assert router.calls == {
        (PATH + "given_up", "CANCELLED"): 1, ("", "UNIMPLEMENTED"): 1,
        (PATH + "stream_echo", "OK"): 1, (PATH + "stream_echo", "CANCELLED"): 1,
        (PATH + "wait", "CANCELLED"): 2,
    }  # fmt: skip


# -- compression -------------------------------------------------------------------------------


async def stream_echo(requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
    async for message in requests:
        yield bytes(message)


LONG = bytes(2 * MIN_COMPRESS_BYTES)
GZIP = {"grpc_encoding": b"gzip", "grpc_accept_encoding": b"identity, gzip"}


def compressed(message: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"\x01" + framed(stream.compress(message) + stream.flush())[1:]


async def echoed(client: Client, *messages: bytes) -> tuple[dict[bytes, bytes], list[int]]:
    """The fields of a stream that gets these messages one after the other, and the flags of its
    answers."""
    frames = client.send(begun("stream_echo", **GZIP))
    for count, message in enumerate(messages):
        frames += client.send(data(1, message))
        async with asyncio.timeout(5):
            while sum(kind == DATA for kind, *_ in frames) <= count:
                await asyncio.sleep(0)
                frames += client.taken()
    frames += await settled(client, data(1, b"", END_STREAM))
    return ending(frames), [payload[0] for kind, _, _, payload in frames if kind == DATA]


@pytest.mark.parametrize(
    ("messages", "encoding", "flags"),
    [
        ([framed(b"a"), compressed(LONG), framed(LONG)], None, [0, 0, 0]),
        ([compressed(LONG), framed(LONG), compressed(b"a")], b"gzip", [1, 1, 0]),
        ([framed(LONG)], None, [0]),
    ],
    ids=["later", "first", "never"],
)
@on_loop
async def test_a_stream_is_compressed_as_its_head_says(
    messages: list[bytes], encoding: bytes | None, flags: list[int]
) -> None:
    client, _ = calling(stream_echo=stream_echo)
    fields, found = await echoed(client, *messages)
    assert (fields.get(b"grpc-encoding"), found) == (encoding, flags)
    assert fields[b"grpc-status"] == b"0"


@on_loop
async def test_large_answers_of_a_stream_are_compressed_on_a_thread() -> None:
    client, _ = calling(stream_echo=stream_echo)
    large = bytes(MOST)
    fields, (flag,) = await echoed(client, compressed(large))
    assert (fields[b"grpc-encoding"], flag) == (b"gzip", 1)


# -- memory --------------------------------------------------------------------------------------


@on_loop
async def test_requests_that_are_whole_but_not_ended_are_held_against_their_connection() -> None:
    client, _ = calling(wait=wait)
    for stream_id in (1, 3, 5):
        client.send(begun("wait", stream_id))
    first, second, third = (pieces(bytes(700_000), n) for n in (1, 3, 5))
    assert {n for n, _ in updates_of(client.send(*first, *second)) if n} == {1}
    assert {n for n, _ in updates_of(client.send(*third)) if n} == set()
    assert {n for n, _ in updates_of(client.send(data(1, b"", END_STREAM))) if n} == {3}
    assert {n for n, _ in updates_of(client.send(data(3, b"", END_STREAM))) if n} == {5}


@on_loop
async def test_a_stream_whose_handler_does_not_read_is_asked_for_little() -> None:
    async def stream_wait(requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
        await wait(None, context)
        yield b""

    client, _ = calling(stream_wait=stream_wait)
    client.send(begun("stream_wait"))
    await turns(3)
    window, sent = client.limits.stream_window_bytes, 0
    for piece in 10 * pieces(bytes(600_000)):
        size = len(piece) - 9
        if size > window:
            break
        sent += size
        window += sum(more for n, more in updates_of(client.send(piece)) if n) - size
    assert sent < 2_300_000, "two messages, which are more than may wait, and a window"


@on_loop
async def test_what_waits_for_a_stream_is_taken_and_more_is_asked_for() -> None:
    client, _ = calling(stream_echo=stream_echo)
    client.send(begun("stream_echo"))
    client.send(frame(8, 0, 0, (1 << 24).to_bytes(4, "big")))
    client.send(frame(8, 0, 1, (1 << 24).to_bytes(4, "big")))
    message = bytes(700_000)
    frames: list[Frame] = []
    for _ in range(8):
        for piece in pieces(message):
            frames += client.send(piece)
        frames += await settled(client)
    assert sum(more for n, more in updates_of(frames) if n == 1) > 4_000_000
    assert len(payload_of(frames, 1)) == 8 * len(framed(message))
