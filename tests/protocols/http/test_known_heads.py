"""A head that is known byte for byte is not parsed again: this must never change an answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.protocols.http.listener import MAX_HEAD_BYTES, MAX_HEADS
from protocols.http.harness import Wire, chunked, cut, request


def known_after(*pieces: bytes) -> set[bytes]:
    wire = Wire()
    wire.feed(*pieces)
    return set(wire.listener.heads)


def test_a_head_seen_before_is_not_routed_again() -> None:
    wire = Wire()
    for number in range(5):
        wire.feed(request("/now", b"body %d" % number))
    assert wire.bodies() == [b"POST /now  body %d" % number for number in range(5)]
    assert len(wire.listener.heads) == 1
    assert len(wire.route.routed) <= 2


def test_a_head_is_known_on_every_connection_of_a_listener() -> None:
    first = Wire()
    first.feed(request("/now", b"1"))
    second = Wire(listener=first.listener)
    routed = len(first.route.routed)
    second.feed(request("/now", b"2"))
    assert second.bodies() == [b"POST /now  2"]
    assert len(first.route.routed) == routed


@pytest.mark.parametrize(
    "other",
    [
        request("/now", b"abc", x_mark="2"),
        request("/nowhere", b"abc"),
        request("/now", b"abcd"),
        request("/now", b"abc", method="PUT"),
        request("/now", b"abc").replace(b"host", b"Host"),
        request("/now", b"abc", version="1.0"),
    ],
)
def test_another_head_is_another_request(other: bytes) -> None:
    wire, fresh = Wire(), Wire()
    wire.feed(request("/now", b"abc"), other)
    fresh.feed(other)
    assert wire.bodies()[1:] == fresh.bodies()


def test_a_known_head_with_too_short_or_too_long_a_body_is_read_as_ever() -> None:
    one = request("/now", b"abc")
    wire = Wire()
    wire.feed(one, one[:-1], one[-1:], one + one[:20], one[20:])
    assert wire.bodies() == [b"POST /now  abc"] * 4


def test_a_known_head_behind_another_request_waits_for_its_turn() -> None:
    wire = Wire()
    wire.feed(request("/now", b"a"), request("/slow"), request("/now", b"b"))
    assert wire.bodies() == [b"POST /now  a"]
    wire.route.started[1].answer()
    assert wire.bodies()[1:] == [b"POST /slow  ", b"POST /now  b"]


@pytest.mark.parametrize(
    "data",
    [
        chunked(b"abc"),
        request("/now", b"abc", expect="100-continue"),
        request("/now", method="GET", upgrade="x", connection="upgrade"),
        request("/now", b"abc", x_request_id="1"),
        request("/now", b"abc", traceparent="00-1-2-3"),
        request("/now", b"abc", x_long="a" * MAX_HEAD_BYTES),
        request("/now", method="DELETE"),
        b"\r\n\r\n" + request("/now", b"abc"),
        request("/now", b"abc") + request("/now", b"abc"),
        request("/now", b"abc") + b"POST",
    ],
)
def test_heads_that_need_a_parser_or_never_come_again_are_not_remembered(data: bytes) -> None:
    assert known_after(data) == set()


def test_pieces_are_not_remembered() -> None:
    one = request("/now", b"abc")
    for point in range(1, len(one)):
        assert known_after(one[:point], one[point:]) == set()


def test_the_number_of_known_heads_is_bounded() -> None:
    wire = Wire()
    for number in range(MAX_HEADS * 2 + 1):
        wire.feed(request("/now", b"abc", x_mark=str(number)))
        assert len(wire.listener.heads) <= MAX_HEADS
    assert wire.bodies()[-1].startswith(f"POST /now {MAX_HEADS * 2} ".encode())


def test_connection_close_is_obeyed_for_a_known_head_too() -> None:
    first = Wire()
    data = request("/now", b"abc", connection="close")
    first.feed(data)
    second = Wire(listener=first.listener)
    second.feed(data)
    assert [answer.closes for answer in second.answers()] == [True]
    assert second.transport.ended


def test_answers_to_known_heads_close_while_draining() -> None:
    first = Wire()
    data = request("/now", b"abc")
    first.feed(data)
    first.listener.draining = True
    second = Wire(listener=first.listener)
    second.feed(data)
    assert [answer.closes for answer in second.answers()] == [True]


# -- poisoning ------------------------------------------------------------------------------------

VICTIM = request("/now/victim", b"secret", x_mark="victim")
"""What a later client sends; an attacker wants it answered as something else."""

INNER = (
    request("/now/attack", b"secret", x_mark="victim"),
    VICTIM,
    VICTIM.replace(b"/victim", b"/attack"),
    VICTIM.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    VICTIM[:-6],
    b"\r\n\r\n" + VICTIM,
)
bodies = st.one_of(
    st.sampled_from(INNER),
    st.tuples(st.binary(max_size=8), st.sampled_from(INNER), st.binary(max_size=8)).map(b"".join),
    st.sampled_from([b"", b"\r\n\r\n", b"abc"]),
)
attacks = st.lists(
    st.tuples(bodies, st.booleans(), st.sampled_from(["a", "b"])), min_size=1, max_size=5
)


def framed(body: bytes, in_chunks: bool, mark: str) -> bytes:
    if in_chunks and body:
        return chunked(body)
    return request("/now/outer", body, x_mark=mark)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(attacks, st.lists(st.integers(0, 5000), max_size=12), st.lists(st.integers(0, 300)))
def test_no_body_changes_how_a_later_request_is_answered(
    sent: list[tuple[bytes, bool, str]], points: list[int], own_points: list[int]
) -> None:
    data = b"".join(framed(*one) for one in sent)
    attacker = Wire()
    attacker.feed(*cut(data, points))
    plain = Wire()
    plain.feed(data)
    assert attacker.bodies() == plain.bodies()
    assert len(attacker.bodies()) == len(sent), "a body was taken for a request"

    expected = b"POST /now/victim victim secret"
    attacker.feed(VICTIM, *cut(VICTIM, own_points), VICTIM)
    assert attacker.bodies()[len(sent) :] == [expected] * 3
    victim = Wire(listener=attacker.listener)
    victim.feed(VICTIM, *cut(VICTIM, own_points), VICTIM)
    assert victim.bodies() == [expected] * 3


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    attacks,
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 400)), max_size=30),
    st.lists(st.sampled_from([VICTIM, request("/now/get", method="GET")]), max_size=4),
)
def test_two_connections_whose_pieces_interleave_do_not_touch_each_other(
    sent: list[tuple[bytes, bool, str]], turns: list[tuple[int, int]], others: list[bytes]
) -> None:
    first = Wire()
    second = Wire(listener=first.listener)
    streams = [b"".join(framed(*one) for one in sent), b"".join([VICTIM, *others, VICTIM])]
    left = list(streams)
    for which, size in [*turns, (0, 10_000), (1, 10_000)]:
        piece, left[which] = left[which][:size], left[which][size:]
        if piece:
            (first, second)[which].feed(piece)
    for wire, stream in zip((first, second), streams, strict=True):
        alone = Wire()
        alone.feed(stream)
        assert wire.bodies() == alone.bodies()
    for known, (head, _) in first.listener.heads.items():
        again = Wire()
        again.feed(known + b"x" * head.body_bytes)
        assert again.route.started[0].request.head.target == head.target
        assert again.route.started[0].request.head.fields == head.fields
