import numpy as np
import pytest

from inferd.engine.sample.logprobs import token_logprobs
from inferd.errors import BackendError
from inferd.types.generation import TokenLogprobs


def _reference(row: np.ndarray, token: int, top: int) -> TokenLogprobs:
    exact = row.astype(np.float64)
    scores = exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())
    order = sorted(range(len(row)), key=lambda index: (-scores[index], index))[:top]
    rank = 1 + sum(score > scores[token] for score in scores)
    return TokenLogprobs(token, scores[token], rank, [(i, scores[i]) for i in order])


@pytest.mark.parametrize("top", [0, 1, 5, 50])
@pytest.mark.parametrize("count", [0, 1, 8, 19])
def test_every_row_is_that_of_the_reference(count: int, top: int) -> None:
    random = np.random.default_rng(count)
    logits = (random.normal(size=(count, 50)) * 8).round(1).astype(np.float32)
    tokens = random.integers(0, 50, count).astype(np.int32)
    found = token_logprobs(logits, tokens, top)
    assert len(found) == count
    for row, token, got in zip(logits, tokens.tolist(), found, strict=True):
        expected = _reference(row, token, top)
        assert (got.token_id, got.rank) == (token, expected.rank)
        assert got.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert [i for i, _ in got.top] == [i for i, _ in expected.top]
        assert [s for _, s in got.top] == pytest.approx([s for _, s in expected.top], abs=1e-5)


def test_the_token_and_the_top_agree() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 1_000)).astype(np.float32)
    best = logits.argmax(axis=1)
    for got in token_logprobs(logits, best.tolist(), 3):
        assert got.rank == 1
        assert got.top[0] == (got.token_id, got.logprob)


def test_equals_share_a_rank() -> None:
    logits = np.array([[1, 2, 2, 0]], np.float32)
    ranks = [token_logprobs(logits, [token], 0)[0].rank for token in range(4)]
    assert ranks == [3, 1, 1, 4]


def test_impossible_tokens_have_minus_infinity() -> None:
    logits = np.array([[0, -np.inf, 0, -3e38]], np.float32)
    got = token_logprobs(logits, [1], 4)[0]
    assert got.logprob == -np.inf
    assert got.rank == 4
    assert got.top[:2] == [(0, pytest.approx(-np.log(2))), (2, pytest.approx(-np.log(2)))]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_without_probabilities_are_an_error(bad: float) -> None:
    logits = np.full((2, 4), bad, np.float32)
    with pytest.raises(BackendError, match="no usable logits"):
        token_logprobs(logits, [0, 1], 1)
