import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.engine.text.stop import StopMatcher

letters = st.text("ab", min_size=1, max_size=5)


def _run(stops: list[str], include: bool, chunks: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops, include)
    shown = []
    for chunk in chunks:
        text, stop = matcher.push(chunk)
        shown.append(text)
        if stop is not None:
            return shown, stop
    return [*shown, matcher.flush()], None


@pytest.mark.parametrize(
    ("stops", "chunks", "shown", "stop"),
    [
        ([], ["ab", "c"], ["ab", "c", ""], None),
        (["END"], ["text", " EN", "D more"], ["text", " ", ""], "END"),
        (["END"], ["text EN", "d", "EN"], ["text ", "ENd", "", "EN"], None),
        (["END"], ["xEEND"], ["xE"], "END"),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", ""], "\n\n"),
        (["abab"], ["aba", "c", "abab"], ["", "abac", ""], "abab"),
        (["abcd", "bc"], ["abcd"], ["a"], "bc"),
        (["bc", "abc"], ["zabc"], ["z"], "abc"),
        (["你好"], ["说你", "好。"], ["说", ""], "你好"),
        (["x"], ["x"], [""], "x"),
    ],
)
def test_stops(stops: list[str], chunks: list[str], shown: list[str], stop: str | None) -> None:
    assert _run(stops, False, chunks) == (shown, stop)


def test_included() -> None:
    assert _run(["END"], True, ["text EN", "D more"]) == (["text ", "END"], "END")


def _reference(stops: list[str], include: bool, text: str) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


@given(st.lists(letters, max_size=3), st.booleans(), st.lists(st.text("abc", max_size=6)))
@settings(derandomize=True, deadline=None, max_examples=500)
def test_the_split_makes_no_difference(stops: list[str], include: bool, chunks: list[str]) -> None:
    shown, stop = _run(stops, include, chunks)
    assert ("".join(shown), stop) == _reference(stops, include, "".join(chunks))


@given(st.lists(letters, min_size=1, max_size=3), st.lists(st.text("abc", max_size=6)))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_no_more_is_held_than_may_become_a_stop(stops: list[str], chunks: list[str]) -> None:
    matcher = StopMatcher(stops)
    whole = shown = ""
    for chunk in chunks:
        text, stop = matcher.push(chunk)
        whole, shown = whole + chunk, shown + text
        if stop is not None:
            return
        held = whole[len(shown) :]
        assert whole == shown + held
        starts = {stop[:length] for stop in stops for length in range(len(stop))}
        assert held == max((start for start in starts if whole.endswith(start)), key=len)


def test_long_stops_cost_no_more_than_short_ones() -> None:
    matcher = StopMatcher(["a" * 20_000 + "b"])
    start = time.perf_counter()
    shown = [matcher.push("a" * 25)[0] for _ in range(1_000)]
    assert time.perf_counter() - start < 2  # with a square it would be minutes
    assert "".join(shown) == "a" * 5_000
    assert matcher.push("b") == ("", "a" * 20_000 + "b")
