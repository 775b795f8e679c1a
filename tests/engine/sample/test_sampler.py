import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.sample.reference import adjusted, probabilities
from inferd.engine.sample.row import SamplingRow
from inferd.engine.sample.sampler import Sampler
from inferd.errors import BackendError, InvalidRequest
from inferd.types.generation import SamplingParams

VOCAB = 5_000
GREEDY = SamplingParams(temperature=0)
KINDS = [
    GREEDY,
    SamplingParams(temperature=0, repetition_penalty=1.3, logprobs=2),
    SamplingParams(seed=1),
    SamplingParams(seed=2, top_k=40),
    SamplingParams(seed=3, top_p=0.9, presence_penalty=1.0, frequency_penalty=0.5),
    SamplingParams(seed=4, min_p=0.05, temperature=1.7, logprobs=0),
    SamplingParams(seed=5, top_k=900, top_p=0.7, min_p=0.001, logit_bias={3: 4.0}),
    SamplingParams(seed=6, allowed_token_ids=tuple(range(0, VOCAB, 3)), min_tokens=3),
]


def _logits(rows: int, seed: int = 0, vocab: int = VOCAB) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(rows, vocab)) * 3).astype(np.float32)


def _rows(kinds: list[SamplingParams], vocab: int = VOCAB) -> list[SamplingRow]:
    return [
        SamplingRow(params, vocab, prompt_token_ids=[1, 2, 2], eos_token_ids=[0])
        for params in kinds
    ]


def test_greedy_rows_take_the_first_of_the_largest() -> None:
    logits = np.array([[1, 3, 3, 2], [-np.inf, -np.inf, -5, -np.inf], [0, 0, 0, 0]], np.float32)
    sampled = Sampler(4).sample(logits, _rows([GREEDY] * 3, 4))
    assert sampled.token_ids.tolist() == [1, 2, 0]
    assert sampled.token_ids.dtype == np.int32
    assert sampled.logprobs is None
    assert not sampled.failed


def test_an_empty_step() -> None:
    assert Sampler(4).sample(np.zeros((0, 4), np.float32), []).token_ids.tolist() == []


def test_greedy_in_a_mixed_batch_is_greedy() -> None:
    logits = _logits(len(KINDS))
    sampled = Sampler(VOCAB).sample(logits, _rows(KINDS))
    assert sampled.token_ids[0] == logits[0].argmax()


def _run(kinds: list[SamplingParams], steps: int, together: bool) -> list[list[int]]:
    """The tokens of each row, over steps whose logits differ by row."""
    sampler, rows = Sampler(VOCAB), _rows(kinds)
    tokens: list[list[int]] = []
    for step in range(steps):
        logits = _logits(len(rows), step)
        if together:
            found = sampler.sample(logits, rows).token_ids.tolist()
        else:
            found = [
                int(sampler.sample(logits[i : i + 1], [row]).token_ids[0])
                for i, row in reversed(list(enumerate(rows)))
            ][::-1]
        tokens.append(found)
    return [list(row) for row in zip(*tokens, strict=True)]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    assert _run(KINDS, 8, together=True) == _run(KINDS, 8, together=False)


def test_seeds_reproduce_and_differ() -> None:
    kinds = [SamplingParams(seed=9), SamplingParams(seed=9), SamplingParams(seed=10)]
    logits = np.repeat(_logits(1), 3, axis=0)
    runs = []
    for _ in range(2):
        sampler, rows = Sampler(VOCAB), _rows(kinds)
        runs.append([sampler.sample(logits, rows).token_ids.tolist() for _ in range(6)])
    assert runs[0] == runs[1]
    first, second, third = zip(*runs[0], strict=True)
    assert first == second
    assert first != third


def test_logits_are_left_as_they_are() -> None:
    logits = _logits(len(KINDS))
    before = logits.copy()
    Sampler(VOCAB).sample(logits, _rows(KINDS))
    assert (logits == before).all()


def test_logprobs_are_raw_and_only_for_who_asked() -> None:
    logits = _logits(len(KINDS))
    sampled = Sampler(VOCAB).sample(logits, _rows(KINDS))
    assert sampled.logprobs is not None
    asked = [params.logprobs for params in KINDS]
    assert [None if found is None else len(found.top) for found in sampled.logprobs] == asked
    for index, found in enumerate(sampled.logprobs):
        if found is not None:
            row = logits[index].astype(np.float64)
            expected = row[sampled.token_ids[index]] - np.log(np.exp(row).sum())
            assert found.token_id == sampled.token_ids[index]
            assert found.logprob == pytest.approx(expected, abs=1e-5)


def test_all_logprobs() -> None:
    rows = _rows([SamplingParams(temperature=0, logprobs=-1)], 6)
    sampled = Sampler(6).sample(_logits(1, vocab=6), rows)
    assert sampled.logprobs is not None
    assert sampled.logprobs[0] is not None
    assert len(sampled.logprobs[0].top) == 6


def test_rows_learn_their_tokens() -> None:
    """A word of two tokens is bad: its end is not said behind its beginning."""
    logits = np.tile(np.array([0, 0, 5, 4], np.float32), (1, 1))
    params = SamplingParams(temperature=0, bad_words_token_ids=((2, 2),), min_tokens=1)
    sampler, rows = Sampler(4), _rows([params], 4)
    assert [int(sampler.sample(logits, rows).token_ids[0]) for _ in range(4)] == [2, 3, 2, 3]


@pytest.mark.parametrize("others", [[], [GREEDY], [SamplingParams(seed=1, logprobs=1)]])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("params", [GREEDY, SamplingParams(seed=1, top_p=0.5, logprobs=1)])
def test_unusable_logits_fail_their_row_alone(
    params: SamplingParams, bad: float, others: list[SamplingParams]
) -> None:
    logits = _logits(1 + len(others))
    logits[0] = bad
    sampled = Sampler(VOCAB).sample(logits, _rows([params, *others]))
    assert sampled.token_ids[0] == -1
    assert list(sampled.failed) == [0]
    assert isinstance(sampled.failed[0], BackendError)
    assert (sampled.token_ids[1:] >= 0).all()


def test_one_nan_is_enough() -> None:
    logits = _logits(1)
    logits[0, 77] = np.nan
    assert list(Sampler(VOCAB).sample(logits, _rows([GREEDY])).failed) == [0]


def test_masks_that_leave_nothing_are_the_callers_fault() -> None:
    params = SamplingParams(allowed_token_ids=(3,), bad_words_token_ids=((3,),))
    sampled = Sampler(8).sample(_logits(2, vocab=8), _rows([params, GREEDY], 8))
    assert isinstance(sampled.failed[0], InvalidRequest)
    assert sampled.token_ids[0] == -1
    assert sampled.token_ids[1] >= 0


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1e30, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    logits = np.array([[0, 1, -np.inf, -3e38, 3e38, 2.9e38]], np.float32)
    rows = _rows([SamplingParams(temperature=temperature, seed=1, min_p=1e-300)], 6)
    token = int(Sampler(6).sample(logits, rows).token_ids[0])
    assert token == 4 if temperature < 1 else token != 2


@given(
    st.lists(
        st.one_of(st.integers(-3, 3).map(float), st.floats(-9, 9, width=32), st.just(-np.inf)),
        min_size=2,
        max_size=60,
    ).filter(lambda row: max(row) > -np.inf),
    st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        top_k=st.sampled_from([0, 1, 2, 7, 1000]),
        top_p=st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
        min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
        seed=st.integers(0, 10),
    ),
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_only_what_the_rules_leave_is_chosen(row: list[float], params: SamplingParams) -> None:
    logits = np.array([row], np.float32)
    expected = probabilities(adjusted(logits[0], params), params)
    rows = [SamplingRow(params, len(row))]
    for _ in range(5):
        token = int(Sampler(len(row)).sample(logits, rows).token_ids[0])
        assert expected[token] > 0
