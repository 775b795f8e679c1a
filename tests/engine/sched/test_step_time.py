import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.engine.sched.step_time import StepCost, StepLoad, StepTime, prefill_pairs

TRUE = StepCost(30e-3, 3e-3, 2e-6, 0.2e-3, 1.5e-6)


def seconds(load: StepLoad, cost: StepCost = TRUE) -> float:
    return cost[0] + sum(c * x for c, x in zip(cost[1:], load, strict=True))


def prefill(start: int, num_tokens: int) -> StepLoad:
    return StepLoad(num_tokens, prefill_pairs(start, num_tokens))


def mixed(source: random.Random) -> StepLoad:
    rows = source.randrange(33)
    start, chunk = source.randrange(4000), source.choice([0, 0, 17, 64, 512])
    return StepLoad(chunk, prefill_pairs(start, chunk), rows, rows * source.randrange(1, 2000))


def trained(count: int, noise: float = 0.0, seed: int = 1) -> StepTime:
    source = random.Random(seed)
    step_time = StepTime()
    for _ in range(count):
        load = mixed(source)
        step_time.observe(load, seconds(load) * (1 + source.uniform(-noise, noise)))
    return step_time


def test_before_the_first_step_the_prior_speaks() -> None:
    step_time = StepTime(TRUE)
    load = StepLoad(100, 5050, 8, 800)
    assert step_time.predict(load) == pytest.approx(seconds(load))
    assert step_time.cost == pytest.approx(TRUE)


def test_the_first_step_sets_the_scale() -> None:
    step_time = StepTime(TRUE)
    step_time.observe(prefill(0, 512), 10 * seconds(prefill(0, 512)))
    decode = StepLoad(decode_rows=4, kv_tokens=2000)
    assert step_time.predict(decode) == pytest.approx(10 * seconds(decode), rel=0.05)


def test_learns_what_steps_cost() -> None:
    step_time = trained(300, noise=0.05)
    for load in [
        StepLoad(decode_rows=1, kv_tokens=100),
        StepLoad(decode_rows=32, kv_tokens=32000),
        prefill(0, 512),
        prefill(3500, 64),
        StepLoad(64, prefill_pairs(1000, 64), 8, 4000),
    ]:
        assert step_time.predict(load) == pytest.approx(seconds(load), rel=0.1)


def test_a_wrong_prior_is_soon_forgotten() -> None:
    step_time = trained(30)
    load = StepLoad(64, prefill_pairs(500, 64), 8, 4000)
    assert step_time.predict(load) == pytest.approx(seconds(load), rel=0.1)


def test_a_first_step_that_compiles_is_soon_forgotten() -> None:
    step_time, source = StepTime(), random.Random(3)
    step_time.observe(prefill(0, 512), 20 * seconds(prefill(0, 512)))
    for _ in range(30):
        load = mixed(source)
        step_time.observe(load, seconds(load))
    load = StepLoad(64, prefill_pairs(500, 64), 8, 4000)
    assert step_time.predict(load) == pytest.approx(seconds(load), rel=0.1)


def test_one_outlier_hardly_counts() -> None:
    step_time = trained(300, noise=0.02)
    load = StepLoad(decode_rows=8, kv_tokens=4000)
    before = step_time.predict(load)
    step_time.observe(load, 30 * before)
    assert step_time.predict(load) == pytest.approx(before, rel=0.03)


def test_a_machine_that_stays_slower_is_followed() -> None:
    step_time = trained(300, noise=0.02)
    load = StepLoad(decode_rows=8, kv_tokens=4000)
    for _ in range(60):
        step_time.observe(load, 2 * seconds(load))
    assert step_time.predict(load) == pytest.approx(2 * seconds(load), rel=0.15)


def test_prefill_is_not_forgotten_over_a_long_decode() -> None:
    step_time = trained(300, noise=0.02)
    source = random.Random(5)
    for i in range(20000):
        load = StepLoad(decode_rows=8, kv_tokens=8 * (i % 1000))
        step_time.observe(load, seconds(load) * source.uniform(0.95, 1.05))
    added = step_time.predict_prefill(0, 256)
    assert added == pytest.approx(seconds(prefill(0, 256)) - TRUE.step_s, rel=0.25)


def test_no_time_teaches_nothing() -> None:
    step_time = StepTime(TRUE)
    step_time.observe(prefill(0, 5), 0.0)
    assert step_time.num_observed == 0


def test_free_tokens_fit_without_limit() -> None:
    step_time = StepTime(StepCost(1e-3, 0.0, 0.0, 1e-3, 0.0))
    assert step_time.prefill_tokens_in(0.1, 1000) > 1 << 30
    assert step_time.prefill_tokens_in(0.0, 1000) == 0
    assert StepTime().prefill_tokens_in(math.inf, 1000) > 1 << 30


@settings(derandomize=True, deadline=None)
@given(st.floats(1e-4, 10.0), st.integers(0, 100_000), st.integers(0, 50))
def test_the_inverse_is_the_most_that_fits(budget_s: float, start: int, count: int) -> None:
    step_time = trained(count)
    fitting = step_time.prefill_tokens_in(budget_s, start)
    assert step_time.predict_prefill(start, fitting) <= budget_s * (1 + 1e-6)
    assert step_time.predict_prefill(start, fitting + 1) > budget_s * (1 - 1e-6)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000), st.integers(0, 64), st.integers(0, 10**6), st.floats(1e-6, 100.0)
        ),
        max_size=60,
    )
)
def test_whatever_is_seen_predictions_stay_sane(
    steps: list[tuple[int, int, int, float]],
) -> None:
    step_time = StepTime()
    for tokens, rows, kv_tokens, taken_s in steps:
        step_time.observe(StepLoad(tokens, prefill_pairs(0, tokens), rows, kv_tokens), taken_s)
        assert all(0.0 <= cost < 1e6 for cost in step_time.cost)
        assert 0.0 <= step_time.predict(StepLoad(100, 5050, 8, 1000)) < 1e9
