"""Thousands of draws with fixed seeds against exact probabilities (chi-square)."""

from itertools import pairwise

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import chisquare

from engine.sample.reference import adjusted, probabilities
from inferd.engine.sample.row import SamplingRow
from inferd.engine.sample.sampler import Sampler
from inferd.types.generation import SamplingParams

DRAWS = 1_000


@pytest.mark.parametrize("vocab", [12, 4_500])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=3.0),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.1),
        SamplingParams(temperature=1.5, top_k=9, top_p=0.9),
        SamplingParams(temperature=0.7, top_k=10, top_p=0.95, min_p=0.05),
        SamplingParams(repetition_penalty=1.5, logit_bias={1: 2.0}, top_p=0.9),
        SamplingParams(allowed_token_ids=(0, 2, 3, 5)),
    ],
)
def test_draws_follow_the_probabilities(params: SamplingParams, vocab: int) -> None:
    logits = (np.random.default_rng(vocab).normal(size=vocab) * 1.5).astype(np.float32)
    prompt = [0, 1, 4]
    expected = probabilities(adjusted(logits, params, prompt), params)
    row_logits = logits[None]
    # A row a draw, so that penalties see no output; each has its own seed.
    sampler = Sampler(vocab)
    counts = np.zeros(vocab)
    for seed in range(DRAWS):
        row = SamplingRow(replace(params, seed=seed), vocab, prompt_token_ids=prompt)
        counts[sampler.sample(row_logits, [row]).token_ids[0]] += 1
    assert counts[expected == 0].sum() == 0
    # What is seldom goes into one class, as the test wants.
    common = expected * DRAWS >= 8
    observed = [*counts[common], counts[~common].sum()]
    wanted = [*expected[common] * DRAWS, expected[~common].sum() * DRAWS]
    classes = [(o, w) for o, w in zip(observed, wanted, strict=True) if w > 1e-9]
    if len(classes) > 1:
        result = chisquare([o for o, _ in classes], [w for _, w in classes], sum_check=False)
        assert result.pvalue > 1e-3


def test_one_row_draws_independently() -> None:
    """Numbers that one seed gives one after the other are as good as those of many seeds."""
    params = SamplingParams(seed=123)
    row, sampler = SamplingRow(params, 16), Sampler(16)
    logits = np.zeros((1, 16), np.float32)
    tokens = [int(sampler.sample(logits, [row]).token_ids[0]) for _ in range(DRAWS)]
    assert chisquare(np.bincount(tokens, minlength=16)).pvalue > 1e-3
    pairs = np.bincount([a * 16 + b for a, b in pairwise(tokens)])
    assert chisquare(pairs).pvalue > 1e-3
