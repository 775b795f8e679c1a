import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.engine.sample.candidates import draw, in_order, largest, nucleus

numbers = st.lists(
    st.one_of(st.integers(-4, 4).map(float), st.floats(-50, 50, width=32), st.just(-np.inf)),
    min_size=1,
    max_size=400,
)


def _order(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda index: (-values[index], index))


@given(numbers, st.integers(1, 450))
@settings(derandomize=True, deadline=None)
def test_largest_are_the_first_in_order(values: list[float], k: int) -> None:
    found = largest(np.array(values, np.float32), k)
    assert found.tolist() == sorted(_order([float(np.float32(v)) for v in values])[:k])


@pytest.mark.parametrize("k", [1, 2, 20, 100, 700, 3_000, 50_000])
@pytest.mark.parametrize("kind", ["normal", "ties", "equal", "sorted"])
def test_largest_of_a_vocabulary(k: int, kind: str) -> None:
    values = np.random.default_rng(3).normal(size=50_257).astype(np.float32)
    if kind == "ties":
        values = np.round(values, 1)
    elif kind == "equal":
        values[:] = 1.5
    elif kind == "sorted":
        values.sort()
    assert largest(values, k).tolist() == sorted(np.argsort(-values, kind="stable")[:k].tolist())


def test_in_order_puts_equals_by_index() -> None:
    assert in_order(np.array([1.0, 3.0, 1.0, 3.0, 2.0])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999, 1 - 1e-7])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 5.0])
def test_nucleus_is_the_shortest_that_holds_the_share(share: float, spread: float) -> None:
    logits = np.random.default_rng(5).normal(size=40_000) * spread
    weights = np.exp(logits - logits.max()).astype(np.float32)
    kept = nucleus(weights, share)
    order = np.argsort(-weights, kind="stable")
    assert kept.tolist() == sorted(order[: len(kept)].tolist())
    goal = share * weights.sum(dtype=np.float64)
    mass = np.cumsum(weights[order], dtype=np.float64)
    assert mass[len(kept) - 1] >= goal * (1 - 1e-12)
    assert len(kept) == 1 or mass[len(kept) - 2] < goal * (1 + 1e-12)


@pytest.mark.parametrize("zeros", [0, 30_000])
def test_nucleus_of_a_long_row_with_zeros(zeros: int) -> None:
    weights = np.ones(40_000, np.float32)
    weights[:zeros] = 0
    left = 40_000 - zeros
    assert nucleus(weights, 0.5).tolist() == list(range(zeros, zeros + left // 2))
    assert nucleus(weights, 1.0).tolist() == list(range(zeros, 40_000))


def test_nucleus_of_one() -> None:
    assert nucleus(np.array([0.1, 1.0, 0.1], np.float32), 1e-9).tolist() == [1]


@pytest.mark.parametrize("size", [1, 7, 4_096, 4_097, 128_256])
def test_draw_lays_weights_end_to_end(size: int) -> None:
    random = np.random.default_rng(size)
    weights = random.random(size, np.float32) * (random.random(size) < 0.5)
    weights[size // 2] = 1
    ends = np.cumsum(weights, dtype=np.float64)
    for uniform in [0.0, 1e-12, *random.random(50), 1 - 2**-53]:
        index = draw(weights, uniform)
        assert weights[index] > 0
        # Sums of float32 are not exact: the true place may be a hair away.
        assert ends[index] >= uniform * ends[-1] - 1e-5 * ends[-1]
        assert ends[index] - weights[index] <= uniform * ends[-1] + 1e-5 * ends[-1]


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30).filter(lambda w: sum(w) > 0),
    st.floats(0, 1, exclude_max=True),
)
@settings(derandomize=True, deadline=None)
def test_draw_never_takes_a_weight_of_zero(weights: list[float], uniform: float) -> None:
    array = np.array(weights, np.float32)
    assert array[draw(array, uniform)] > 0
