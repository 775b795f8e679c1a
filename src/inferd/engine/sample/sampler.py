"""The Sampler: one step's logits in, one token for each row out.

Semantics are vLLM's: bias, penalties and masks, then temperature, then min-p, top-k and top-p,
each on what the one before it left. It refuses to know sequences, text and time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inferd.engine.sample.candidates import draw, largest, nucleus
from inferd.engine.sample.logprobs import token_logprobs
from inferd.engine.sample.row import SamplingRow
from inferd.errors import BackendError, InferdError, InvalidRequest
from inferd.types.generation import TokenLogprobs

Logits = NDArray[np.float32]


@dataclass(slots=True)
class SampledTokens:
    """`token_ids` int32 [R]. `logprobs` has an entry for each row that asked; None where no row
    did. `failed` holds, by row, why no token could be chosen; such a row's token is -1."""

    token_ids: NDArray[np.int32]
    logprobs: list[TokenLogprobs | None] | None = None
    failed: dict[int, InferdError] = field(default_factory=dict)


class Sampler:
    """Chooses tokens for whole batches. Owns working memory for two rows, so that one thread at a
    time may use it."""

    def __init__(self, vocab_size: int) -> None:
        self._adjusted = np.empty(vocab_size, np.float32)
        self._weights = np.empty(vocab_size, np.float32)

    def sample(self, logits: Logits, rows: Sequence[SamplingRow]) -> SampledTokens:
        """Choose a token for each of `rows` from `logits` [R, vocab], and tell the row.

        The logits are not changed. What a row gets does not depend on the other rows. One row
        that cannot be served does not hurt the others; see `SampledTokens.failed`.
        """
        if all(row.plain for row in rows):
            sampled = self._largest(logits)
        else:
            # A logit near the least float32 overflows to -inf, which is right.
            with np.errstate(over="ignore"):
                sampled = self._each(logits, rows)
        for row, token_id in zip(rows, sampled.token_ids.tolist(), strict=True):
            if token_id >= 0:
                row.append(token_id)
        return sampled

    def _largest(self, logits: Logits) -> SampledTokens:
        token_ids = logits.argmax(axis=1).astype(np.int32)
        sampled = SampledTokens(token_ids)
        chosen = logits[np.arange(len(token_ids)), token_ids]
        for index in np.flatnonzero(~np.isfinite(chosen)).tolist():
            sampled.failed[index] = _nothing_left(logits[index])
            token_ids[index] = -1
        return sampled

    def _each(self, logits: Logits, rows: Sequence[SamplingRow]) -> SampledTokens:
        sampled = SampledTokens(np.full(len(rows), -1, np.int32))
        for index, (raw, row) in enumerate(zip(logits, rows, strict=True)):
            try:
                token_id = self._choose(raw, row)
            except InferdError as error:
                sampled.failed[index] = error
                continue
            sampled.token_ids[index] = token_id
            if row.logprobs is not None:
                if sampled.logprobs is None:
                    sampled.logprobs = [None] * len(rows)
                (sampled.logprobs[index],) = token_logprobs(raw[None], [token_id], row.logprobs)
        return sampled

    def _choose(self, raw: Logits, row: SamplingRow) -> int:
        logits = raw
        if row.adjusts:
            logits = self._adjusted
            np.copyto(logits, raw)
            row.adjust(logits)
        best = int(logits.argmax())
        # NaN counts as the largest number, so that one look tells of every kind of bad row.
        if not np.isfinite(logits[best]):
            raise _nothing_left(raw)
        return best if row.greedy else self._draw(logits, logits[best], row)

    def _draw(self, logits: Logits, most: np.float32, row: SamplingRow) -> int:
        params = row.params
        ids = None
        if 0 < params.top_k < logits.size:
            ids = largest(logits, params.top_k)
            logits = logits[ids]
        if params.min_p > 0:
            # A share of the largest probability is a distance from the largest logit.
            distance = np.float32(row.temperature * math.log(params.min_p))
            kept = np.flatnonzero(logits >= most + distance)
            logits = logits[kept]
            ids = kept if ids is None else ids[kept]
        weights = self._weights[: logits.size]
        np.subtract(logits, most, out=weights)
        if row.temperature != 1:
            weights *= np.float32(1 / row.temperature)
        np.exp(weights, out=weights)
        if params.top_p < 1:
            kept = nucleus(weights, params.top_p)
            weights = weights[kept]
            ids = kept if ids is None else ids[kept]
        place = draw(weights, row.uniform())
        return place if ids is None else int(ids[place])


def _nothing_left(raw: Logits) -> InferdError:
    """Why there is no largest logit to choose: the model's fault or the request's."""
    if np.isnan(raw).any() or np.isposinf(raw).any() or np.isneginf(raw).all():
        return BackendError(
            "the model computed no usable logits (NaN, or infinite); its weights, or the dtype it "
            "runs in, do not suit it: try dtype float32"
        )
    return InvalidRequest(
        "allowed_token_ids, bad_words, logit_bias and min_tokens leave no token to choose; allow "
        "more tokens"
    )
