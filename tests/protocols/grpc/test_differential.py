"""The same calls, errors, cancellations and oddities, by grpcio's clients, on a server of grpcio's
and on ours: what clients see is the same, but for what DIFFERENCES lists with its reason.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import pytest
from grpc import ChannelConnectivity, Compression, StatusCode, aio

from protocols.grpc.peer import peer
from protocols.grpc.served import MOST, SERVICE, Calls, served
from protocols.http2.serving import on_uvloop

SECONDS = 10
"""After which a call that should end has not."""


class Seen(NamedTuple):
    """All that a client is told of one call."""

    messages: list[bytes]
    code: StatusCode
    details: str | None
    initial: list[tuple[str, Any]]
    trailing: list[tuple[str, Any]]


class Side(NamedTuple):
    """One of the two servers."""

    address: str
    calls: Calls


Scenario = Callable[[Side], Awaitable[Any]]

SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    SCENARIOS[play.__name__] = play
    return play


def handlers_own(metadata: Any) -> list[tuple[str, Any]]:
    """Metadata that handlers have set: the rest is each server's own."""
    return [(key, value) for key, value in metadata or () if key.startswith("x-")
            and key != "x-request-id"]  # fmt: skip


@asynccontextmanager
async def channel_to(
    side: Side, compression: Compression | None = None, **options: Any
) -> AsyncIterator[aio.Channel]:
    pairs = [(f"grpc.{name}", value) for name, value in options.items()]
    async with aio.insecure_channel(side.address, pairs, compression) as channel:
        yield channel


def method(kind: Any, name: str) -> Any:
    return kind(name if name.startswith("/") else f"/{SERVICE}/{name}")


# -- what a client sees ----------------------------------------------------------------------------


async def seen(call: Any) -> Seen:
    """Of a call of the asynchronous client, to its end."""
    messages: list[bytes] = []
    try:
        async with asyncio.timeout(SECONDS):
            if hasattr(call, "read"):
                while (message := await call.read()) is not aio.EOF:
                    messages.append(message)
            else:
                messages.append(await call)
    except aio.AioRpcError:
        pass
    except asyncio.CancelledError:
        if not call.done():
            raise
    return Seen(
        messages, await call.code(), await call.details(),
        handlers_own(await call.initial_metadata()), handlers_own(await call.trailing_metadata()),
    )  # fmt: skip


def seen_by_sync(call: Any, many: bool = False) -> Seen:
    """Of a call of the blocking client: a future, or an iterator over many answers."""
    messages: list[bytes] = []
    try:
        if many:
            messages.extend(call)
        else:
            messages.append(call.result(SECONDS))
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass
    return Seen(
        messages, call.code(), call.details(),
        handlers_own(call.initial_metadata()), handlers_own(call.trailing_metadata()),
    )  # fmt: skip


async def unary(side: Side, name: str, message: bytes = b"", **options: Any) -> Seen:
    async with channel_to(side) as channel:
        return await seen(method(channel.unary_unary, name)(message, **options))


async def counted(side: Side, name: str, message: bytes, **options: Any) -> Seen:
    async with channel_to(side) as channel:
        return await seen(method(channel.unary_stream, name)(message, **options))


async def streamed(side: Side, name: str, messages: list[bytes], **options: Any) -> Seen:
    async with channel_to(side) as channel:
        return await seen(method(channel.stream_stream, name)(iter(messages), **options))


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(SECONDS):
        await event.wait()


# -- calls -----------------------------------------------------------------------------------------


@scenario
async def unary_of_many_sizes(side: Side) -> Any:
    sizes = (0, 1, 5, 16_383, 16_384, 65_535, 65_536, 300_000, MOST)
    return [await unary(side, "Echo", bytes(size)) for size in sizes]


@scenario
async def unary_with_any_bytes(side: Side) -> Any:
    return await unary(side, "Echo", bytes(range(256)) * 100)


@scenario
async def answers_of_many_sizes(side: Side) -> Any:
    asked = (b"0 0", b"1 0", b"5 0", b"100 1", b"3 1000000")
    return [await counted(side, "Count", message) for message in asked]


@scenario
async def requests_of_many_sizes(side: Side) -> Any:
    sizes = ([], [0], [0, 0, 0], [1] * 100, [MOST], [70_000, 0, 3])
    return [await streamed(side, "Total", [bytes(size) for size in some]) for some in sizes]


@scenario
async def one_answer_to_many_requests(side: Side) -> Any:
    async with channel_to(side) as channel:
        return await seen(method(channel.stream_unary, "Total")(iter([b"a", b"bc"])))


@scenario
async def both_sides_stream(side: Side) -> Any:
    return await streamed(side, "EchoEach", [bytes([n]) * n * 5000 for n in range(20)])


@scenario
async def both_sides_take_turns(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "EchoEach")()
        turns = []
        for number in range(30):
            await call.write(b"%d" % number)
            turns.append(await call.read())
        await call.done_writing()
        return turns, await seen(call)


@scenario
async def half_closed_at_once(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "EchoEach")()
        await call.done_writing()
        return await seen(call)


@scenario
async def many_at_once(side: Side) -> Any:
    async with channel_to(side) as channel:
        calls = [method(channel.unary_unary, "Echo")(b"%d" % n * n) for n in range(150)]
        streams = [method(channel.stream_stream, "EchoEach")(iter([b"%d" % n] * 20))
                   for n in range(50)]  # fmt: skip
        fails = [method(channel.unary_unary, "Fail")(b"%d" % n) for n in range(50)]
        return await asyncio.gather(*map(seen, [*calls, *streams, *fails]))


# -- errors ----------------------------------------------------------------------------------------


@scenario
async def errors_with_any_words(side: Side) -> Any:
    words = ("", " ", "plain", "100 %", "%41%zz", "é ☃ 🎉", "two\nlines\tand\ttabs", " ends ",
             "\x00\x7f", "long " * 600, "☃" * 400)  # fmt: skip
    return [await unary(side, "Fail", text.encode()) for text in words]


@scenario
async def details_that_are_too_long(side: Side) -> Any:
    found = await unary(side, "Fail", b"0123456789" * 500)
    return found.code, found.details


@scenario
async def a_fault_of_the_handler(side: Side) -> Any:
    return await unary(side, "Break")


@scenario
async def an_error_behind_answers(side: Side) -> Any:
    asked = (b"0 0", b"1 5", b"3 100000")
    return [await counted(side, "CountThenFail", message) for message in asked]


@scenario
async def an_error_between_requests(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "FailLater")()
        await call.write(b"a")
        return await seen(call)


@scenario
async def an_error_before_any_request(side: Side) -> Any:
    async with channel_to(side) as channel:
        return await seen(method(channel.stream_stream, "FailEarly")())


@scenario
async def an_error_where_one_answer_was_expected(side: Side) -> Any:
    async with channel_to(side) as channel:
        return await seen(method(channel.stream_unary, "FailEarly")(iter([b"a"])))


@scenario
async def unknown_methods(side: Side) -> Any:
    paths = (f"/{SERVICE}/Nope", "/test.Other/Echo", "/nothing", f"/{SERVICE}/", "/")
    found = [await unary(side, path) for path in paths]
    async with channel_to(side) as channel:
        found.append(await seen(method(channel.stream_stream, "/test.Other/Stream")()))
    return [(one.messages, one.code) for one in found]


@scenario
async def words_for_unknown_methods(side: Side) -> Any:
    return (await unary(side, f"/{SERVICE}/Nope")).details


@scenario
async def messages_that_are_too_large(side: Side) -> Any:
    return await unary(side, "Echo", bytes(MOST + 1))


@scenario
async def messages_that_are_too_large_compressed(side: Side) -> Any:
    found = await unary(side, "Echo", bytes(MOST + 1), compression=Compression.Gzip)
    return found.messages, found.code


@scenario
async def answers_that_are_too_large_for_the_client(side: Side) -> Any:
    async with channel_to(side, max_receive_message_length=1000) as channel:
        alone = await seen(method(channel.unary_unary, "Echo")(bytes(1001)))
        later = await seen(method(channel.unary_stream, "Count")(b"3 2000"))
        fine = await seen(method(channel.unary_unary, "Echo")(bytes(1000)))
        return alone, later, fine


@scenario
async def no_message_for_a_method_of_one(side: Side) -> Any:
    async with channel_to(side) as channel:
        found = await seen(method(channel.stream_unary, "Echo")(iter([]), timeout=0.3))
        return found.messages, found.code


@scenario
async def two_messages_for_a_method_of_one(side: Side) -> Any:
    async with channel_to(side) as channel:
        found = await seen(method(channel.stream_unary, "Echo")(iter([b"a", b"b"])))
        return found.messages, found.code


@scenario
async def no_answer_where_one_was_expected(side: Side) -> Any:
    return await unary(side, "Count", b"0 0")


# -- metadata --------------------------------------------------------------------------------------


@scenario
async def metadata_of_every_kind(side: Side) -> Any:
    kinds: tuple[Any, ...] = (
        [],
        [("x-a", "1")],
        [("x-a", "")],
        [("x-a", "1"), ("x-b", "2"), ("x-a", "3")],
        [("x-a", "with spaces, and commas"), ("x-a", "again")],
        [("x-long", "v" * 3000)],
        [("x-b-bin", bytes(range(size)))for size in (0, 1)],
        [("x-b-bin", bytes(range(size)))for size in (1, 2, 3, 4, 255)],
        [(f"x-{n}", str(n)) for n in range(40)],
        [("x-_.9", "~!@#$%^&*()")],
    )  # fmt: skip
    return [await unary(side, "Metadata", metadata=metadata) for metadata in kinds]


@scenario
async def metadata_of_a_stream(side: Side) -> Any:
    return await streamed(side, "Total", [b"a"] * 3, metadata=[("x-a", "b")])


@scenario
async def metadata_that_is_too_large(side: Side) -> Any:
    """Of the one call alone: others on its connection go on."""
    async with channel_to(side) as channel:
        ask = method(channel.unary_unary, "Echo")
        stream = method(channel.stream_stream, "EchoEach")()
        await stream.write(b"a")
        before = await stream.read()
        found = await seen(ask(b"b", metadata=[("x-a", "v" * 20_000)]))
        await stream.done_writing()
        return before, found.messages, found.code, await seen(stream), await seen(ask(b"c"))


@scenario
async def metadata_that_is_far_too_large(side: Side) -> Any:
    async with channel_to(side) as channel:
        ask = method(channel.unary_unary, "Echo")
        found = await seen(ask(b"b", metadata=[("x-a", "v" * 40_000)]))
        return found.code, (await seen(ask(b"c", wait_for_ready=True))).messages


# -- time ------------------------------------------------------------------------------------------


@scenario
async def a_deadline_is_told(side: Side) -> Any:
    return [await unary(side, "Metadata", timeout=timeout) for timeout in (None, 5, 3600, 1e7)]


@scenario
async def a_deadline_that_has_passed(side: Side) -> Any:
    return [await unary(side, "Echo", timeout=timeout) for timeout in (-0.1, -1)]


@scenario
async def a_deadline_in_a_call(side: Side) -> Any:
    """Either side may be the first to say it, in its own words."""
    found = await unary(side, "Wait", timeout=0.05)
    await happens(side.calls.cancelled)
    return found.messages, found.code


@scenario
async def a_deadline_in_a_stream(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "EchoEach")(timeout=0.1)
        await call.write(b"a")
        found = await seen(call)
        await happens(side.calls.cancelled)
        return found.messages, found.code


@scenario
async def a_deadline_while_answers_are_not_read(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.unary_stream, "Count")(b"1000 65536", timeout=0.2)
        await happens(side.calls.cancelled)
        return (await seen(call)).code


# -- clients that change their mind ----------------------------------------------------------------


@scenario
async def cancelled_in_a_call(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.unary_unary, "Wait")(b"a")
        await happens(side.calls.begun)
        call.cancel()
        await happens(side.calls.cancelled)
        return await seen(call)


@scenario
async def cancelled_before_the_first_request(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "EchoEach")()
        await happens(side.calls.begun)
        call.cancel()
        await happens(side.calls.cancelled)
        return await seen(call)


@scenario
async def cancelled_between_answers(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.stream_stream, "EchoEach")()
        await call.write(b"a")
        answer = await call.read()
        call.cancel()
        await happens(side.calls.cancelled)
        return answer, await seen(call)


@scenario
async def cancelled_within_answers(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.unary_stream, "Count")(b"100000 65536")
        answer = await call.read()
        call.cancel()
        await happens(side.calls.cancelled)
        return len(answer), (await seen(call)).code


@scenario
async def cancelled_behind_the_end(side: Side) -> Any:
    async with channel_to(side) as channel:
        call = method(channel.unary_unary, "Echo")(b"a")
        found = await seen(call)
        return call.cancel(), found, await seen(method(channel.unary_unary, "Echo")(b"b"))


@scenario
async def a_channel_that_is_closed_in_calls(side: Side) -> Any:
    channel = aio.insecure_channel(side.address)
    call = method(channel.unary_unary, "Wait")(b"a")
    await happens(side.calls.begun)
    await channel.close()
    await happens(side.calls.cancelled)
    return await seen(call)


@scenario
async def writes_behind_an_early_end(side: Side) -> Any:
    """The answer is whole before all requests are sent; what is written then goes nowhere."""
    found = []
    async with channel_to(side) as channel:
        for name in ("Early", "FailEarly"):
            call = method(channel.stream_stream, name)()
            found.append(await seen(call))
            with pytest.raises((asyncio.InvalidStateError, aio.AioRpcError)):
                await call.write(b"late")
        found.append(await seen(method(channel.unary_unary, "Echo")(b"still here")))
    return found


# -- compression -----------------------------------------------------------------------------------


@scenario
async def compressed_as_the_channel_says(side: Side) -> Any:
    found = []
    for kind in Compression:
        async with channel_to(side, kind) as channel:
            calls = method(channel.unary_unary, "Echo")
            found += [await seen(calls(b"ab" * size)) for size in (0, 10, 5000, 500_000)]
    return found


@scenario
async def compressed_as_the_call_says(side: Side) -> Any:
    found = []
    async with channel_to(side, Compression.Gzip) as channel:
        for kind in Compression:
            call = method(channel.stream_stream, "EchoEach")
            found.append(await seen(call(iter([b"a" * 3000, b"", b"c"]), compression=kind)))
            answers = method(channel.unary_stream, "Count")
            found.append(await seen(answers(b"3 5000", compression=kind)))
    return found


# -- the blocking client ---------------------------------------------------------------------------


def blocking(play: Callable[[Side, grpc.Channel], Any]) -> None:
    """A scenario in a thread."""

    async def run(side: Side) -> Any:
        def on_thread() -> Any:
            with grpc.insecure_channel(side.address) as channel:
                return play(side, channel)

        return await asyncio.to_thread(on_thread)

    SCENARIOS[f"blocking_{play.__name__}"] = run


@blocking
def unary_calls(side: Side, channel: grpc.Channel) -> Any:
    ask = method(channel.unary_unary, "Echo")
    fail = method(channel.unary_unary, "Fail")
    found = [seen_by_sync(ask.future(bytes(size))) for size in (0, 1, 70_000, MOST)]
    return [*found, seen_by_sync(fail.future("☃".encode(), timeout=SECONDS))]


@blocking
def streams(side: Side, channel: grpc.Channel) -> Any:
    return [
        seen_by_sync(method(channel.unary_stream, "Count")(b"20 10000"), True),
        seen_by_sync(method(channel.unary_stream, "CountThenFail")(b"2 3"), True),
        seen_by_sync(
            method(channel.stream_stream, "EchoEach")(iter([b"a", b"", b"c" * 99_999])), True
        ),
        seen_by_sync(method(channel.stream_stream, "FailLater")(iter([b"a", b"b"])), True),
        seen_by_sync(method(channel.stream_unary, "Total").future(iter([b"a", b"b"]))),
    ]


@blocking
def an_early_end(side: Side, channel: grpc.Channel) -> Any:
    """Requests come from a thread of the client's, for as long as it likes."""
    asked = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"first"
        asked.wait(SECONDS)

    found = seen_by_sync(method(channel.stream_stream, "Early")(requests()), True)
    asked.set()
    return found


@blocking
def writes_while_an_early_end_comes(side: Side, channel: grpc.Channel) -> Any:
    early = method(channel.stream_stream, "Early")
    return [seen_by_sync(early(iter([bytes(100_000)] * 100)), True) for _ in range(5)]


@blocking
def a_message_of_a_stream_that_is_too_large(side: Side, channel: grpc.Channel) -> Any:
    found = seen_by_sync(method(channel.stream_stream, "EchoEach")(iter([b"a", bytes(MOST + 1)])),
                         True)  # fmt: skip
    return found.messages, found.code


@blocking
def deadlines(side: Side, channel: grpc.Channel) -> Any:
    wait = method(channel.unary_unary, "Wait")
    return [seen_by_sync(wait.future(b"", timeout=timeout)).code for timeout in (0.05, 0)]


@blocking
def cancellations(side: Side, channel: grpc.Channel) -> Any:
    call = method(channel.unary_stream, "Count")(b"100000 1000")
    first = next(call)
    call.cancel()
    waiting = method(channel.unary_unary, "Wait").future(b"")
    waiting.cancel()
    return first, seen_by_sync(call, True).code, waiting.cancelled()


@blocking
def calls_of_many_threads(side: Side, channel: grpc.Channel) -> Any:
    ask = method(channel.unary_unary, "Echo")
    calls = [ask.future(b"%d" % number * number) for number in range(300)]
    return [seen_by_sync(call) for call in calls]


@blocking
def compressed(side: Side, channel: grpc.Channel) -> Any:
    ask = method(channel.unary_unary, "Echo")
    return [seen_by_sync(ask.future(b"a" * 9000, compression=kind)) for kind in Compression]


# -- both ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """What ours shows, what grpcio's shows, and why ours does not."""

    ours: Any
    theirs: Any
    reason: str


def error(code: StatusCode, details: str) -> Seen:
    return Seen([], code, details, [], [])


TOO_LARGE = f"Received message larger than max ({MOST + 1} vs. {MOST})"

DIFFERENCES: dict[str, Difference] = {
    "details_that_are_too_long": Difference(
        (StatusCode.NOT_FOUND, ("0123456789" * 500)[:4096]),
        (StatusCode.NOT_FOUND, "0123456789" * 500),
        "clients take 8 KiB of trailers or so, and give up the whole status for what is larger",
    ),
    "a_fault_of_the_handler": Difference(
        error(StatusCode.INTERNAL, "internal error: ZeroDivisionError"),
        error(
            StatusCode.UNKNOWN, "Unexpected <class 'ZeroDivisionError'>: of the handler's own"
        ),
        "a fault is INTERNAL as over HTTP, and what it says is for the log",
    ),
    "words_for_unknown_methods": Difference(
        f"unknown method Nope for service {SERVICE}", "Method not found!",
        "the words name what was asked for",
    ),
    "messages_that_are_too_large": Difference(
        error(StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE),
        error(StatusCode.RESOURCE_EXHAUSTED, f"SERVER: {TOO_LARGE}"),
        "the words of most versions of gRPC",
    ),
    "metadata_that_is_far_too_large": Difference(
        (StatusCode.UNAVAILABLE, [b"c"]), (StatusCode.RESOURCE_EXHAUSTED, [b"c"]),
        "twice of what is allowed ends the connection: reading it for its place in the table is "
        "what a header bomb wants",
    ),
    "no_message_for_a_method_of_one": Difference(
        ([], StatusCode.INTERNAL), ([], StatusCode.DEADLINE_EXCEEDED),
        "grpcio says nothing at all and keeps the call",
    ),
    "two_messages_for_a_method_of_one": Difference(
        ([], StatusCode.INTERNAL), ([b"a"], StatusCode.OK),
        "grpcio drops what comes behind the first; gRPC for Go and Java refuse as we do",
    ),
}  # fmt: skip
"""Besides, every answer of ours carries the metadata x-request-id, as over HTTP."""


@pytest.mark.parametrize("name", SCENARIOS)
@on_uvloop
async def test_clients_see_the_same(name: str) -> None:
    play = SCENARIOS[name]
    async with served() as made:
        ours = await play(Side(made.address, made.calls))
    async with peer() as other:
        theirs = await play(Side(other.address, other.calls))
    difference = DIFFERENCES.get(name)
    if difference is None:
        assert ours == theirs
    else:
        assert (ours, theirs) == (difference.ours, difference.theirs)


@on_uvloop
async def test_a_client_that_waits_for_the_server() -> None:
    """wait_for_ready, on a port where a server comes later."""
    found = []
    async with served() as made:
        port = made.port
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    async with aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = method(channel.unary_unary, "Echo")(b"a", wait_for_ready=True, timeout=SECONDS)
        at_once = await seen(method(channel.unary_unary, "Echo")(b"a"))
        assert at_once.code is StatusCode.UNAVAILABLE
        made = type(made)()
        await made.listener.start("127.0.0.1", port)
        found.append(await seen(call))
        await made.listener.stop()
        # Else the call could go out on the connection that is about to be told closed.
        await channel.wait_for_state_change(ChannelConnectivity.READY)
        async with peer(port):
            call = method(channel.unary_unary, "Echo")(b"a", wait_for_ready=True, timeout=SECONDS)
            found.append(await seen(call))
    assert found[0] == found[1]
    assert found[0].code is StatusCode.OK
