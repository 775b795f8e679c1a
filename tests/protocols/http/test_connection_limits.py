"""Clients that read slowly, send far ahead, leave, or take too long."""

import pytest

from fakes import FakeTransport, clock, on_loop, turns
from inferd.protocols.http.connection import MAX_PIPELINED, MAX_PIPELINED_BYTES
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.reader import HttpLimits
from protocols.http.harness import Echo, Wire, chunked, request

# -- backpressure ---------------------------------------------------------------------------------


def test_no_request_is_started_while_the_client_does_not_read() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.feed(request("/now"), request("/now"))
    assert wire.statuses() == []
    wire.connection.resume_writing()
    assert wire.statuses() == [200, 200]


@on_loop
async def test_a_streamed_answer_waits_for_its_client() -> None:
    wire = Wire()
    wire.feed(request("/slow"))
    wire.connection.pause_writing()
    waiting = clock().create_task(wire.connection.drained())
    await turns(2)
    assert not waiting.done()
    wire.connection.resume_writing()
    await turns(2)
    assert waiting.done()


@on_loop
async def test_a_streamed_answer_does_not_wait_for_a_client_that_has_left() -> None:
    wire = Wire()
    wire.feed(request("/slow"))
    wire.connection.pause_writing()
    waiting = clock().create_task(wire.connection.drained())
    await turns(2)
    wire.leave()
    await turns(2)
    assert waiting.done()
    await wire.connection.drained()


@pytest.mark.parametrize(
    ("count", "body_bytes", "stops"),
    [
        (MAX_PIPELINED, 0, False), (MAX_PIPELINED + 1, 0, True),
        (2, MAX_PIPELINED_BYTES + 1, True), (3, MAX_PIPELINED_BYTES * 2 // 3, True),
        (3, MAX_PIPELINED_BYTES // 3, False),
    ],
)  # fmt: skip
def test_a_client_that_sends_far_ahead_is_not_read_until_it_has_its_answers(
    count: int, body_bytes: int, stops: bool
) -> None:
    """Its first request is being answered and does not count."""
    wire = Wire()
    wire.feed(*[request("/slow", b"x" * body_bytes)] * count)
    assert wire.transport.reading is not stops
    for number in range(count):
        wire.route.started[number].answer()
    assert wire.transport.reading
    assert wire.statuses() == [200] * count


# -- the client leaves ----------------------------------------------------------------------------


def test_who_answers_is_told_once_that_the_client_has_left() -> None:
    wire = Wire()
    wire.feed(request("/slow"), request("/slow"))
    wire.leave()
    assert [exchange.cancelled for exchange in wire.route.started] == [1]
    assert wire.listener.connections == set()


def test_an_answer_to_a_client_that_has_left_goes_nowhere() -> None:
    wire = Wire()
    wire.feed(request("/slow"))
    wire.leave()
    wire.route.started[0].answer()
    wire.connection.write(b"more")
    assert wire.transport.sent == b""
    assert wire.listener.responses == {200: 0}


def test_who_has_answered_is_not_told_that_the_client_left() -> None:
    wire = Wire()
    wire.feed(request("/slow"))
    wire.route.started[0].answer()
    wire.leave()
    assert wire.route.started[0].cancelled == 0


# -- time -----------------------------------------------------------------------------------------


async def swept_after(wire: Wire, seconds: float) -> FakeTransport:
    """The connection's socket after the listener looked at it, so many seconds on."""
    wire.connection.since_s -= seconds
    await wire.listener.start("127.0.0.1", 0)
    transport = wire.transport
    seen = FakeTransport()
    seen.sent, seen.closing, seen.aborted = transport.sent[:], transport.closing, transport.aborted
    await wire.listener.stop()
    return seen


def timed() -> Wire:
    limits = HttpLimits(head_timeout_s=10, body_timeout_s=20, keep_alive_s=600)
    echo = Echo()
    wire = Wire(listener=HttpListener(echo, limits))
    wire.route = echo
    return wire


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"POST /now HT", 9, None), (b"POST /now HT", 11, 408),
        (request("/now", b"ab")[:-1], 19, None), (request("/now", b"ab")[:-1], 21, 408),
        (chunked(b"ab")[:-3], 21, 408),
        (request("/slow"), 10_000, None),
    ],
)  # fmt: skip
@on_loop
async def test_a_request_that_does_not_arrive_in_time_is_refused(
    sent: bytes, seconds: float, status: int | None
) -> None:
    wire = timed()
    wire.feed(sent)
    await swept_after(wire, seconds)
    assert wire.statuses() == ([status] if status else [])


@pytest.mark.parametrize(("seconds", "closes"), [(599, False), (601, True)])
@on_loop
async def test_an_idle_connection_is_kept_for_a_while(seconds: float, closes: bool) -> None:
    wire = timed()
    wire.feed(request("/now"))
    assert (await swept_after(wire, seconds)).closing is closes


@on_loop
async def test_a_client_that_does_not_read_is_dropped() -> None:
    wire = timed()
    wire.feed(request("/slow"))
    wire.connection.pause_writing()
    assert (await swept_after(wire, 21)).aborted


@on_loop
async def test_a_client_that_has_caught_up_is_as_idle_as_any() -> None:
    wire = timed()
    wire.feed(request("/slow"))
    wire.connection.pause_writing()
    wire.route.started[0].answer()
    wire.connection.resume_writing()
    assert not (await swept_after(wire, 100)).aborted


@on_loop
async def test_a_last_answer_is_not_cut_off_while_its_client_is_reading_it() -> None:
    """Closing is said with the answer, and a large answer takes its time."""
    wire = timed()
    wire.feed(request("/slow", connection="close"))
    wire.connection.pause_writing()  # more is written than the socket takes
    wire.route.started[0].answer(size=10_000_000)
    assert not (await swept_after(wire, 5)).aborted
