import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.protocols.http2.frames import PREFACE
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.client import frames_of
from protocols.http2.conversations import Talk
from protocols.http2.watched import Watched

LIMITS = Http2Limits(
    max_concurrent_streams=8, high_water=5000, turn_bytes=20_000, stream_window_bytes=65_535,
    connection_window_bytes=65_535, max_frame_bytes=16_384, max_queued_bytes=200_000,
)  # fmt: skip

seeds = st.integers(0, 2**32)


def said(seed: int, steps: int = 40) -> list[bytes]:
    return Talk(random.Random(seed)).say(steps)


@settings(max_examples=150, deadline=None)
@given(seeds, st.lists(st.integers(0, 30_000), max_size=30))
def test_any_split_of_the_bytes_is_the_same_conversation(seed: int, cuts: list[int]) -> None:
    whole = b"".join(said(seed))
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    once, cut_up = Watched(LIMITS, seed), Watched(LIMITS, seed)
    # What is sent depends on when it is asked for, so both are asked at the end alone.
    once.connection.receive(whole, 0.0)
    for start, end in pairwise(edges):
        cut_up.connection.receive(whole[start:end], 0.0)
    once.take()
    cut_up.take()
    assert once.notes == cut_up.notes
    assert once.output == cut_up.output


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_byte_by_byte_is_the_same_conversation(seed: int) -> None:
    whole = b"".join(said(seed, 15))
    once, cut_up = Watched(LIMITS, seed), Watched(LIMITS, seed)
    once.connection.receive(whole, 0.0)
    for at in range(len(whole)):
        cut_up.connection.receive(whole[at : at + 1], 0.0)
    once.take()
    cut_up.take()
    assert once.notes == cut_up.notes
    assert once.output == cut_up.output


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_no_more_is_sent_than_is_granted_and_every_stream_ends_once(seed: int) -> None:
    watched = Watched(LIMITS, seed)
    frames = said(seed, 80)
    for part in frames:
        watched.feed(part)
    watched.ends()
    watched.granted(frames_of(b"".join(frames)[len(PREFACE) :]))


@settings(max_examples=200, deadline=None)
@given(seeds, st.data())
def test_pauses_and_time_change_nothing_of_that(seed: int, data: st.DataObject) -> None:
    watched = Watched(LIMITS, seed)
    frames = said(seed, 60)
    now_s = 0.0
    for part in frames:
        act = data.draw(st.sampled_from(("", "", "", "pause", "resume", "tick", "drain")))
        if act == "pause":
            watched.connection.pause()
        elif act == "resume":
            watched.connection.resume()
        elif act == "tick":
            now_s += 0.3
            watched.connection.tick(now_s)
        elif act == "drain":
            watched.connection.drain(now_s)
        watched.feed(part, now_s)
    watched.connection.resume()
    watched.take()
    watched.connection.lost()
    for sink in watched.sinks.values():
        assert sink.stream.closed


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_at_all(junk: bytes, behind_a_preface: bool) -> None:
    watched = Watched(LIMITS, 0)
    watched.feed((said(1, 5)[0] if behind_a_preface else b"") + junk)
    watched.ends()
