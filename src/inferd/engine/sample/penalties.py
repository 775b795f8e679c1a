"""Repetition, presence and frequency penalties of one sequence, from counts that grow by one token
at a time.

It refuses to know why a token was chosen.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class Penalties:
    """What a sequence has said, and what that costs.

    Memory goes with the distinct tokens seen, not with the vocabulary: 256 rows of 256,000
    counters would be 256 MB, and clearing them takes time too.
    """

    __slots__ = ("_counts", "_frequency", "_ids", "_places", "_presence", "_repetition", "_seen")

    def __init__(
        self,
        repetition: float,
        presence: float,
        frequency: float,
        prompt_token_ids: Sequence[int] = (),
    ) -> None:
        """`repetition` is about prompt and output, `presence` and `frequency` about output only."""
        self._repetition = np.float32(repetition)
        self._presence = np.float32(presence)
        self._frequency = np.float32(frequency)
        prompt: Iterable[int] = dict.fromkeys(prompt_token_ids) if repetition != 1 else ()
        self._places = {token_id: place for place, token_id in enumerate(prompt)}
        self._seen = len(self._places)
        self._ids = np.zeros(max(64, 2 * self._seen), np.int64)
        self._ids[: self._seen] = list(self._places)
        self._counts = np.zeros(len(self._ids), np.float32)

    def append(self, token_id: int) -> None:
        """Count one token of output."""
        place = self._places.get(token_id)
        if place is None:
            place = self._places[token_id] = self._seen
            self._seen += 1
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token_id
        self._counts[place] += 1

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Change the logits [vocab] of the next token in place."""
        ids = self._ids[: self._seen]
        counts = self._counts[: self._seen]
        values = logits[ids]
        if self._repetition != 1:
            values = np.where(values > 0, values / self._repetition, values * self._repetition)
        values -= self._frequency * counts
        values -= self._presence * (counts > 0)
        logits[ids] = values
