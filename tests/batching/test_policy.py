import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.batching.policy import CLOSE_REASONS, BatchPolicy, Close, CloseReason, Wait

MS = 1_000_000


@pytest.mark.parametrize(
    ("policy", "sizes", "others", "expected"),
    [
        # One request at a time, whatever waits.
        (BatchPolicy(0), [1, 1, 1], False, Close(1, "unbatched")),
        (BatchPolicy(0, max_queue_delay_ns=9 * MS), [1], True, Close(1, "unbatched")),
        # Full: exactly, or because the next request does not fit.
        (BatchPolicy(4), [1, 1, 1, 1], False, Close(4, "full")),
        (BatchPolicy(4), [1, 1, 1, 1, 1], False, Close(4, "full")),
        (BatchPolicy(4), [3, 2], False, Close(1, "full")),
        (BatchPolicy(4), [3, 2, 1], True, Close(1, "full")),
        (BatchPolicy(4), [4], False, Close(1, "full")),
        (BatchPolicy(1), [1, 1], False, Close(1, "full")),
        (BatchPolicy(4, max_queue_delay_ns=MS), [3, 2], False, Close(1, "full")),
        # All that waits, since an instance is free.
        (BatchPolicy(4), [1], False, Close(1, "available")),
        (BatchPolicy(8), [3, 2], False, Close(2, "available")),
        # The same, and the rest cannot share the batch.
        (BatchPolicy(8), [3, 2], True, Close(2, "mismatch")),
        # The largest preferred size that can be reached, and nothing beyond it.
        (BatchPolicy(8, (4,)), [1, 1, 1, 1, 1], False, Close(4, "preferred")),
        (BatchPolicy(8, (2, 4)), [1, 1, 1, 1, 1], False, Close(4, "preferred")),
        (BatchPolicy(8, (4, 2)), [1, 1, 1], False, Close(2, "preferred")),
        (BatchPolicy(8, (4,)), [3, 1, 2], True, Close(2, "preferred")),
        (BatchPolicy(8, (8,)), [4, 4], False, Close(2, "preferred")),
        (BatchPolicy(4, (2,)), [2, 3], False, Close(1, "preferred")),
        # A preferred size that is jumped over is not reached.
        (BatchPolicy(8, (4,)), [3, 3], False, Close(2, "available")),
        (BatchPolicy(8, (4,)), [1, 1], False, Close(2, "available")),
    ],
)
def test_batch_is_closed(
    policy: BatchPolicy, sizes: list[int], others: bool, expected: Close
) -> None:
    assert policy.decide(sizes, 0, 0, others) == expected


@pytest.mark.parametrize(
    ("now_ns", "expected"),
    [
        (50, Wait(50 + 2 * MS)),
        (50 + 2 * MS - 1, Wait(50 + 2 * MS)),
        (50 + 2 * MS, Close(2, "delay")),
        (50 + 9 * MS, Close(2, "delay")),
    ],
)
def test_delay_runs_from_the_oldest_arrival(now_ns: int, expected: Close | Wait) -> None:
    policy = BatchPolicy(8, (4,), 2 * MS)
    assert policy.decide([1, 1], 50, now_ns) == expected


def test_preferred_size_does_not_wait_for_the_delay() -> None:
    assert BatchPolicy(8, (2,), MS).decide([1, 1, 1], 0, 0) == Close(2, "preferred")


@pytest.mark.parametrize(
    ("sizes", "now_ns", "expected"),
    [
        # Who has waited long enough takes along all there is room for, as in Triton.
        ([1] * 6, MS - 1, Close(4, "preferred")),
        ([1] * 6, MS, Close(6, "delay")),
        ([1] * 9, MS, Close(8, "full")),
        ([1] * 4, MS, Close(4, "preferred")),
        # Beyond the largest preferred size there is none to wait for, as in Triton.
        ([5], 0, Close(1, "available")),
        ([3, 3], 0, Close(2, "available")),
        ([3], 0, Wait(MS)),
    ],
)
def test_a_preferred_size_is_waited_for_as_long_as_it_can_be_reached(
    sizes: list[int], now_ns: int, expected: Close | Wait
) -> None:
    assert BatchPolicy(8, (2, 4), MS).decide(sizes, 0, now_ns) == expected


def test_delay_is_waited_for_though_others_wait_too() -> None:
    assert BatchPolicy(8, (), MS).decide([1], 0, 0, others_wait=True) == Wait(MS)
    assert BatchPolicy(8, (), MS).decide([1], 0, MS, others_wait=True) == Close(1, "delay")


@pytest.mark.parametrize(
    ("sizes", "enough", "expected"),
    [
        ([1, 1, 1, 1, 1], 2, Close(2, "enough")),
        ([1, 1], 4, Close(2, "available")),
        ([3, 1], 2, Close(1, "enough")),  # one request is never taken apart
        ([1, 3], 2, Close(1, "enough")),
        ([4, 4], 16, Close(2, "full")),
        ([1, 1, 1], 0, Close(3, "available")),
    ],
)
def test_no_more_is_taken_than_is_worth_running_together(
    sizes: list[int], enough: int, expected: Close
) -> None:
    assert BatchPolicy(8).decide(sizes, 0, 0, enough=enough) == expected


def test_what_is_configured_goes_before_what_is_worth_it() -> None:
    assert BatchPolicy(8, (4,)).decide([1] * 5, 0, 0, enough=2) == Close(4, "preferred")
    assert BatchPolicy(8, (), MS).decide([1] * 5, 0, MS, enough=2) == Close(5, "delay")


def test_every_reason_but_retry_is_one_the_policy_gives() -> None:
    given_by_policy: set[CloseReason] = {"enough"}
    for policy, sizes, others in (
        (BatchPolicy(2), [1, 1], False),
        (BatchPolicy(4, (2,)), [1, 1], False),
        (BatchPolicy(4, (), 1), [1], False),
        (BatchPolicy(4), [1], False),
        (BatchPolicy(4), [1], True),
        (BatchPolicy(0), [1], False),
    ):
        decision = policy.decide(sizes, 0, 5, others)
        assert isinstance(decision, Close)
        given_by_policy.add(decision.reason)
    assert given_by_policy == set(CLOSE_REASONS) - {"retry"}


@settings(derandomize=True, deadline=None)
@given(
    st.integers(0, 12).flatmap(
        lambda most: st.tuples(
            st.just(most), st.lists(st.integers(1, max(most, 1)), min_size=1, max_size=30)
        )
    ),
    st.lists(st.integers(1, 12), max_size=3),
    st.integers(0, 5),
    st.integers(0, 9),
    st.booleans(),
)
def test_a_closed_batch_has_requests_and_never_too_many_rows(
    most_and_sizes: tuple[int, list[int]],
    preferred: list[int],
    delay_ns: int,
    waited_ns: int,
    others: bool,
) -> None:
    most, sizes = most_and_sizes
    decision = BatchPolicy(most, tuple(preferred), delay_ns).decide(sizes, 7, 7 + waited_ns, others)
    if isinstance(decision, Wait):
        assert waited_ns < delay_ns
        assert decision.until_ns == 7 + delay_ns
        return
    assert 1 <= decision.count <= len(sizes)
    assert decision.count == 1 or sum(sizes[: decision.count]) <= most
    if decision.reason == "preferred":
        assert sum(sizes[: decision.count]) in preferred
    elif decision.reason != "unbatched":  # all that fits is taken
        assert decision.count == len(sizes) or sum(sizes[: decision.count + 1]) > most


@pytest.mark.parametrize(("waiting", "enough", "taken"), [(9, 0, 4), (9, 2, 2), (3, 9, 3)])
def test_requests_of_a_model_without_batching_may_go_together(
    waiting: int, enough: int, taken: int
) -> None:
    policy = BatchPolicy(0, bundle=4)
    assert policy.decide(iter([1] * waiting), 0, 0, enough=enough) == Close(taken, "unbatched")
