"""A SamplingRow: all that the sampler remembers of one sequence between two tokens.

It refuses to know the logits of other rows: what a row draws depends on nothing but the row.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from inferd.engine.sample.masks import Masks, needs_masks
from inferd.engine.sample.penalties import Penalties
from inferd.types.generation import SamplingParams

_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.01, 1e6
"""Beyond them numbers overflow, and only the likeliest token is left, or all are alike, anyhow."""


class SamplingRow:
    """One sequence: its parameters (checked already), what it has said, its random numbers.

    `index` is its number among the request's n, so that sequences with one seed differ.
    """

    __slots__ = (
        "_bias",
        "_masks",
        "_penalties",
        "_random",
        "greedy",
        "logprobs",
        "params",
        "temperature",
        "vocab_size",
    )

    def __init__(
        self,
        params: SamplingParams,
        vocab_size: int,
        *,
        prompt_token_ids: Sequence[int] = (),
        eos_token_ids: Iterable[int] = (),
        index: int = 0,
    ) -> None:
        self.params = params
        self.vocab_size = vocab_size
        self.temperature = min(max(params.temperature, _LEAST_TEMPERATURE), _MOST_TEMPERATURE)
        self.greedy = params.temperature == 0 or params.top_k == 1
        """The likeliest token, always."""
        self.logprobs = vocab_size if params.logprobs == -1 else params.logprobs
        self._bias = _bias(params.logit_bias)
        self._penalties = _penalties(params, prompt_token_ids)
        self._masks = Masks(params, eos_token_ids, vocab_size) if needs_masks(params) else None
        self._random = None if self.greedy else _generator(params.seed, index)

    @property
    def plain(self) -> bool:
        """Whether the next token is the largest of the logits as they are, and nothing is asked
        about it."""
        return self.greedy and self.logprobs is None and not self.adjusts

    @property
    def adjusts(self) -> bool:
        """Whether `adjust` would change anything now."""
        return (
            self._bias is not None
            or self._penalties is not None
            or (self._masks is not None and self._masks.active)
        )

    def adjust(self, logits: NDArray[np.float32]) -> None:
        """Bias, penalties and masks, in that order, on the logits [vocab] in place."""
        if self._bias is not None:
            token_ids, values = self._bias
            logits[token_ids] += values
        if self._penalties is not None:
            self._penalties.apply(logits)
        if self._masks is not None:
            self._masks.apply(logits)

    def uniform(self) -> float:
        """The sequence's next random number in [0, 1); exactly one is used for a drawn token."""
        return self._random.random() if self._random is not None else 0.0

    def append(self, token_id: int) -> None:
        """One more token of output. The sampler does this itself for the tokens it chooses."""
        if self._penalties is not None:
            self._penalties.append(token_id)
        if self._masks is not None:
            self._masks.append(token_id)


def _bias(
    bias: dict[int, float] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    if not bias:
        return None
    values = np.array(list(bias.values()), np.float64).clip(-100, 100)
    return np.array(list(bias), np.int64), values.astype(np.float32)


def _penalties(params: SamplingParams, prompt_token_ids: Sequence[int]) -> Penalties | None:
    repetition = params.repetition_penalty
    presence, frequency = params.presence_penalty, params.frequency_penalty
    if repetition == 1 and not presence and not frequency:
        return None
    return Penalties(repetition, presence, frequency, prompt_token_ids)


def _generator(seed: int | None, index: int) -> np.random.Generator:
    if seed is None:
        return np.random.Generator(np.random.PCG64())
    # A seed sequence takes no negative numbers.
    return np.random.Generator(np.random.PCG64([seed % 2**64, index]))
