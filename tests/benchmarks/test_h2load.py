"""What h2load prints and logs, and the frame that it sends."""

import pytest
from benchmarks.h2load import frame, read_figures
from benchmarks.load import LoadError

PRINTED = """
finished in 2.00s, 50.00 req/s, 506.92KB/s
requests: 100 total, 132 started, 100 done, {succeeded} succeeded, {failed} failed, \
2 errored, 1 timeout
status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1013.84KB (1038168) total, 19.90KB (20382) headers (space savings 96.24%), {data} data
time for request:      698us     22.79ms      9.52ms      1.49ms    92.22%
"""
ANSWER_BYTES = 96


def printed(answers: int, failed: int = 0) -> str:
    data = f"9.38KB ({answers * ANSWER_BYTES})"
    return PRINTED.format(succeeded=100 - failed, failed=failed, data=data)


def log(*statuses: int) -> list[str]:
    return [f"1795290898910168\t{status}\t{1000 * n}\n" for n, status in enumerate(statuses, 1)]


def test_calls_a_second_and_how_long_they_took() -> None:
    figures = read_figures(printed(100), log(*[200] * 100), ANSWER_BYTES)
    assert figures.requests_per_second == pytest.approx(50.0)
    assert (figures.p50_ms, figures.p99_ms) == (pytest.approx(50.5), pytest.approx(99.01))
    assert (figures.bad_status, figures.socket_errors) == (0, 3)


def test_answers_without_data_are_refusals_whatever_their_status() -> None:
    figures = read_figures(printed(60), log(*[200] * 100), ANSWER_BYTES)
    assert figures.requests_per_second == pytest.approx(30.0)
    assert figures.bad_status == 40


def test_answers_that_had_begun_are_not_counted() -> None:
    figures = read_figures(printed(110), log(*[200] * 100), ANSWER_BYTES)
    assert figures.requests_per_second == pytest.approx(50.0)
    assert figures.bad_status == 0


def test_other_statuses_are_refusals_and_their_times_do_not_count() -> None:
    figures = read_figures(printed(98, failed=2), log(*[200] * 98, 503, -1), ANSWER_BYTES)
    assert figures.requests_per_second == pytest.approx(49.0)
    assert figures.p50_ms == pytest.approx(49.5)
    assert (figures.bad_status, figures.socket_errors) == (2, 5)


@pytest.mark.parametrize("text", ["", "could not connect", printed(0)])
def test_nothing_measured_is_an_error(text: str) -> None:
    with pytest.raises(LoadError):
        read_figures(text, [], ANSWER_BYTES)


def test_a_frame_is_a_message_with_its_length_before_it() -> None:
    assert frame(b"") == b"\0\0\0\0\0"
    assert frame(b"x" * 0x01020304)[:6] == b"\0\1\2\3\4x"
