"""From what a caller asks to a GenerationRequest that the engine can run: tokens, defaults, checks.

It refuses to know the wire and the engine's state; it may be used from several threads.
"""

import time
from collections.abc import Sequence

import msgspec

from inferd.config.engine import EngineConfig
from inferd.engine.models.spec import DecoderSpec
from inferd.engine.sample.params import check
from inferd.engine.text.bad_words import bad_words_token_ids
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import InvalidRequest
from inferd.types.generation import GenerationRequest, SamplingParams


class Intake:
    """Makes the requests of one model."""

    def __init__(
        self, tokenizer: Tokenizer, spec: DecoderSpec, max_len: int, config: EngineConfig
    ) -> None:
        self.tokenizer = tokenizer
        self.max_len = max_len
        self.vocab_size = spec.vocab_size
        self._config = config

    def request(
        self, id: str, prompt: str | Sequence[int], params: SamplingParams, *,
        add_special_tokens: bool = True, priority: int = 0, tenant: str = "", cache_salt: str = "",
    ) -> GenerationRequest:  # fmt: skip
        """Raises InvalidRequest that names the field and the fix."""
        if isinstance(prompt, str):
            tokens = self.tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
        else:
            tokens = self.checked_ids(prompt)
        if params.bad_words:
            words = bad_words_token_ids(self.tokenizer, params.bad_words)
            params = msgspec.structs.replace(params, bad_words_token_ids=words)
        if params.seed is None and self._config.seed is not None:
            params = msgspec.structs.replace(params, seed=self._config.seed)
        check(params, self.vocab_size, self.max_len, len(tokens), self._config.max_logprobs)
        return GenerationRequest(
            id=id,
            prompt_token_ids=tokens,
            params=params,
            priority=priority if self._config.scheduling_policy == "priority" else 0,
            tenant=tenant,
            cache_salt=cache_salt,
            arrival_s=time.monotonic(),
        )

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """Token ids that exist."""
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise InvalidRequest(
                    f"prompt has token id {token_id}, which is not in the vocabulary of "
                    f"{self.vocab_size}; send ids from 0 to {self.vocab_size - 1}"
                )
        return list(ids)
