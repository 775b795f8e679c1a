from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.batching.estimate import RunTimeEstimate


def estimate(**seen: int) -> RunTimeEstimate:
    result = RunTimeEstimate()
    for rows, run_ns in seen.items():
        result.observe(int(rows.removeprefix("rows")), run_ns)
    return result


def test_nothing_seen_is_predicted_to_take_forever() -> None:
    assert RunTimeEstimate().predict(1) == float("inf")


def test_what_was_seen_is_predicted_for_its_power_of_two() -> None:
    seen = estimate(rows4=100)
    assert [seen.predict(rows) for rows in (4, 5, 7)] == [100, 100, 100]


def test_a_shorter_run_is_believed_at_once() -> None:
    seen = estimate(rows1=1000)
    seen.observe(1, 10)
    assert seen.predict(1) == 10


def test_a_longer_run_is_believed_slowly() -> None:
    seen = estimate(rows1=100)
    seen.observe(1, 200)
    assert 100 < seen.predict(1) < 110


def test_one_run_counts_for_at_most_four_times_what_is_known() -> None:
    far, farther = estimate(rows1=100), estimate(rows1=100)
    far.observe(1, 400)
    farther.observe(1, 10**9)
    assert far.predict(1) == farther.predict(1)


def test_runs_that_stay_long_are_believed_in_the_end() -> None:
    seen = estimate(rows1=100)
    for _ in range(200):
        seen.observe(1, 1000)
    assert 950 < seen.predict(1) <= 1000


def test_a_size_never_seen_takes_the_nearest_larger_one() -> None:
    assert estimate(rows8=80, rows64=640).predict(2) == 80


def test_a_size_above_all_seen_is_scaled_up_from_the_largest() -> None:
    seen = estimate(rows1=10, rows4=40)
    assert seen.predict(8) == 80
    assert seen.predict(64) == 640


def test_nothing_is_enough_while_nothing_is_known() -> None:
    assert RunTimeEstimate().enough_rows(0) is None
    assert estimate(rows3=30).enough_rows(0) is None


def test_each_size_is_tried_until_doubling_gains_nothing() -> None:
    seen = RunTimeEstimate()
    cost = {1: 10, 2: 14, 4: 20, 8: 40, 16: 80}
    tried = [1]
    for _ in range(6):
        seen.observe(tried[-1], cost[tried[-1]])
        tried.append(seen.enough_rows(0) or 0)
    assert tried == [1, 2, 4, 8, 4, 4, 4]


def test_a_batch_that_ends_too_soon_is_not_enough() -> None:
    seen = estimate(rows1=10, rows2=20, rows4=40, rows8=80)
    assert seen.enough_rows(0) == 1
    assert seen.enough_rows(40) == 4
    assert seen.enough_rows(1000) == 16


def test_sizes_below_a_request_are_not_asked_for() -> None:
    seen = estimate(rows1=10, rows64=100)
    assert seen.enough_rows(1000) == 2
    assert seen.enough_rows(1000, 32) == 32
    seen.observe(32, 60)
    assert seen.enough_rows(1000, 32) == 128


def test_requests_that_are_no_power_of_two_grow_as_well() -> None:
    seen = estimate(rows1=10, rows33=60)
    assert seen.enough_rows(1000, 33) == 64
    seen.observe(66, 100)
    assert seen.enough_rows(1000, 33) == 128


def test_sizes_between_powers_of_two_are_not_compared() -> None:
    seen = estimate(rows1=10, rows2=12, rows7=42)
    assert seen.enough_rows(0) == 4


@settings(derandomize=True, deadline=None)
@given(
    st.integers(1, 1000), st.integers(0, 1000), st.sets(st.integers(0, 10), min_size=1),
    st.integers(0, 11),
)  # fmt: skip
def test_unseen_sizes_are_never_predicted_too_short(
    per_row: int, fixed: int, seen: set[int], asked: int
) -> None:
    """For a cost that grows at most with the rows."""
    learned = RunTimeEstimate()
    for power in seen:
        learned.observe(1 << power, fixed + per_row * (1 << power))
    assert learned.predict(1 << asked) >= fixed + per_row * (1 << asked)
