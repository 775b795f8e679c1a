"""Which tokens a sequence may not say next: all but the allowed ones, the ends of bad words, and
what would end the text too early.

It refuses to know probabilities: a token is possible or it is not.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from inferd.types.generation import SamplingParams


def needs_masks(params: SamplingParams) -> bool:
    """Whether any token can ever be forbidden."""
    return bool(params.bad_words_token_ids or params.min_tokens) or (
        params.allowed_token_ids is not None
    )


class Masks:
    """The masks of one sequence; it is told every token of output."""

    __slots__ = ("_allowed", "_bad_words", "_endings", "_min_tokens", "_num_tokens", "_tail")

    def __init__(
        self, params: SamplingParams, eos_token_ids: Iterable[int], vocab_size: int
    ) -> None:
        allowed = params.allowed_token_ids
        self._allowed = None if allowed is None else np.unique(np.array(allowed, np.int64))
        self._bad_words = params.bad_words_token_ids
        # A model's own end token may lie beyond its logits.
        endings = {i for i in (*params.stop_token_ids, *eos_token_ids) if 0 <= i < vocab_size}
        self._endings = np.array(sorted(endings), np.int64)
        self._min_tokens = params.min_tokens
        self._num_tokens = 0
        longest = max((len(word) for word in self._bad_words), default=1)
        self._tail: deque[int] = deque(maxlen=longest - 1)

    @property
    def active(self) -> bool:
        """Whether `apply` would do anything now."""
        return bool(
            self._allowed is not None or self._bad_words or self._num_tokens < self._min_tokens
        )

    def append(self, token_id: int) -> None:
        """One more token of output."""
        self._num_tokens += 1
        self._tail.append(token_id)

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Set the logits [vocab] of forbidden tokens to -inf in place."""
        if self._allowed is not None:
            kept = logits[self._allowed]
            logits.fill(-np.inf)
            logits[self._allowed] = kept
        if self._num_tokens < self._min_tokens:
            logits[self._endings] = -np.inf
        if self._bad_words:
            said = tuple(self._tail)
            for *start, last in self._bad_words:
                if not start or said[-len(start) :] == tuple(start):
                    logits[last] = -np.inf
