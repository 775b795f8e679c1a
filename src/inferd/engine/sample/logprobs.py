"""Log probabilities of tokens, raw: of the model's own logits, before anything changed them.

The same function serves the tokens of a prompt (each with the logits before it) and sampled ones.
It refuses to know how a token was chosen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferd.engine.sample.candidates import in_order, largest
from inferd.errors import BackendError
from inferd.types.generation import TokenLogprobs

_VALUES = 2**16
"""How many logits are worked on at once: few enough to stay in the processor's cache."""


def token_logprobs(
    logits: NDArray[np.float32], token_ids: Sequence[int] | NDArray[np.int32], top: int
) -> list[TokenLogprobs]:
    """Of each row of `logits` [R, vocab], its token's log probability and rank, and the `top`
    likeliest tokens.

    Equal log probabilities share a rank. Where a logit is -inf, so is the log probability. Raises
    BackendError for a row that has no probabilities: one with NaN, or with nothing but -inf.
    """
    result: list[TokenLogprobs] = []
    ids = np.asarray(token_ids, np.int64)
    step = max(1, _VALUES // logits.shape[1])
    for start in range(0, len(ids), step):
        rows = logits[start : start + step]
        chosen = ids[start : start + step]
        values = rows[np.arange(len(rows)), chosen]
        ranks = np.count_nonzero(rows > values[:, None], axis=1) + 1
        normalisers = _log_sum_exp(rows)
        scores = values - normalisers
        for row, token_id, score, rank, normaliser in zip(
            rows, chosen, scores, ranks, normalisers, strict=True
        ):
            likeliest = _likeliest(row, float(normaliser), top)
            result.append(TokenLogprobs(int(token_id), float(score), int(rank), likeliest))
    return result


def _log_sum_exp(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    largest_values = rows.max(axis=1, keepdims=True)
    if not np.isfinite(largest_values).all():
        raise BackendError("the model computed no usable logits (NaN, or infinite)")
    with np.errstate(over="ignore"):  # a logit near the least float32: its share is 0
        sums = np.exp(rows - largest_values).sum(axis=1, dtype=np.float64)
    normalisers: NDArray[np.float64] = largest_values[:, 0] + np.log(sums)
    return normalisers


def _likeliest(row: NDArray[np.float32], normaliser: float, count: int) -> list[tuple[int, float]]:
    if count == 0:
        return []
    indices = largest(row, count)
    indices = indices[in_order(row[indices])]
    scores = row[indices].astype(np.float64) - normaliser
    return list(zip(indices.tolist(), scores.tolist(), strict=True))
