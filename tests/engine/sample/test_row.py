import numpy as np
import pytest

from inferd.engine.sample.row import SamplingRow
from inferd.types.generation import SamplingParams


@pytest.mark.parametrize(
    ("params", "greedy", "plain"),
    [
        (SamplingParams(), False, False),
        (SamplingParams(temperature=0), True, True),
        (SamplingParams(top_k=1), True, True),
        (SamplingParams(temperature=0, top_p=0.5, stop_token_ids=(1,)), True, True),
        (SamplingParams(temperature=0, logprobs=0), True, False),
        (SamplingParams(temperature=0, logit_bias={1: 1.0}), True, False),
        (SamplingParams(temperature=0, logit_bias={}), True, True),
        (SamplingParams(temperature=0, presence_penalty=0.1), True, False),
        (SamplingParams(temperature=0, allowed_token_ids=(1,)), True, False),
    ],
)
def test_what_is_plain(params: SamplingParams, greedy: bool, plain: bool) -> None:
    row = SamplingRow(params, 8)
    assert (row.greedy, row.plain) == (greedy, plain)


def test_plain_once_min_tokens_are_there() -> None:
    row = SamplingRow(SamplingParams(temperature=0, min_tokens=1), 8, eos_token_ids=[2])
    assert not row.plain
    row.append(3)
    assert row.plain


def test_bias_is_clamped_and_comes_before_penalties() -> None:
    params = SamplingParams(logit_bias={0: 500.0, 1: -500.0}, repetition_penalty=2.0)
    row = SamplingRow(params, 3, prompt_token_ids=[0, 1])
    logits = np.zeros(3, np.float32)
    row.adjust(logits)
    assert logits.tolist() == [50, -200, 0]


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63 - 1, -(2**63)])
def test_a_seed_gives_the_same_numbers(seed: int) -> None:
    first, second = (SamplingRow(SamplingParams(seed=seed), 8) for _ in range(2))
    assert [first.uniform() for _ in range(5)] == [second.uniform() for _ in range(5)]


def test_sequences_of_a_request_differ() -> None:
    rows = [SamplingRow(SamplingParams(seed=1, n=4), 8, index=index) for index in range(4)]
    assert len({row.uniform() for row in rows}) == 4


def test_without_a_seed_runs_differ() -> None:
    assert len({SamplingRow(SamplingParams(), 8).uniform() for _ in range(8)}) == 8
