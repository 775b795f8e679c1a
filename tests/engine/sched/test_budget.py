import math

import pytest

from inferd.engine.sched.budget import PrefillBudget
from inferd.engine.sched.step_time import StepCost, StepTime

STEP_TIME = StepTime(StepCost(0.01, 0.001, 1e-9, 0.001, 1e-9))


def test_tokens_limit_where_nobody_waits() -> None:
    budget = PrefillBudget(STEP_TIME, 100, math.inf, 16)
    assert budget.chunk(0, 60) == 60
    budget.spend(0, 60)
    assert budget.chunk(0, 60) == 40
    budget.spend(0, 40)
    assert budget.chunk(0, 60) == 0


def test_seconds_limit_where_somebody_waits() -> None:
    budget = PrefillBudget(STEP_TIME, 1000, 0.05, 16)
    chunk = budget.chunk(0, 500)
    assert chunk == pytest.approx(50, abs=1)
    assert budget.chunk(0, 20) == 20
    budget.spend(0, 20)
    assert budget.chunk(0, 500) == pytest.approx(30, abs=1)


def test_the_first_chunk_has_its_least_and_no_other() -> None:
    budget = PrefillBudget(STEP_TIME, 1000, -1.0, 16)
    assert budget.chunk(0, 500) == 16
    assert budget.chunk(0, 5) == 5
    trial = budget.copy()
    trial.spend(0, 16)
    assert trial.chunk(0, 500) == 0
    assert budget.chunk(0, 500) == 16


def test_a_crumb_is_left_unless_it_ends_a_prompt() -> None:
    budget = PrefillBudget(STEP_TIME, 1000, 0.06, 16)
    budget.spend(0, 50)
    assert budget.chunk(0, 500) == 0
    assert budget.chunk(0, 5) == 5
