"""One sequence of tokens on its way: what is known of it, what is computed, where it lies.

It refuses to know text; that its tokens are chosen by a model is none of its business.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from inferd.types.generation import FinishReason, GenerationRequest, SamplingParams


class SequenceStatus(IntEnum):
    """Where a sequence is; a preempted one waits again."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


WAITING, RUNNING, FINISHED = (
    SequenceStatus.WAITING,
    SequenceStatus.RUNNING,
    SequenceStatus.FINISHED,
)


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """One of the `params.n` sequences of a request. `id` is unique in the engine.

    `tokens` are the prompt's and then those that were sampled; the first `num_computed_tokens` of
    them have their keys and values in the blocks of `block_table`, in order. A smaller `priority`
    goes first. Times are in seconds, on the clock that the scheduler is called with; None has not
    happened.
    """

    id: int
    request_id: str
    tokens: list[int]
    params: SamplingParams
    index: int = 0
    priority: int = 0
    tenant: str = ""
    cache_salt: str = ""
    arrival_s: float = 0.0

    status: SequenceStatus = WAITING
    num_prompt_tokens: int = field(init=False)
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens that were found in the prefix cache when it first ran."""
    num_preemptions: int = 0
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None

    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list, repr=False)
    cache_root: bytes = field(default=b"", repr=False)
    num_registered_blocks: int = 0

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.tokens)

    @classmethod
    def from_request(cls, request: GenerationRequest, index: int, id: int) -> "Sequence":
        """Sequence `index` of a request; its tokens are its own."""
        return cls(
            id=id,
            request_id=request.id,
            tokens=list(request.prompt_token_ids),
            params=request.params,
            index=index,
            priority=request.priority,
            tenant=request.tenant,
            cache_salt=request.cache_salt,
            arrival_s=request.arrival_s,
        )

    @property
    def num_output_tokens(self) -> int:
        """How many tokens have been sampled."""
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_left(self) -> int:
        """Known tokens that are not computed yet."""
        return len(self.tokens) - self.num_computed_tokens

    @property
    def output_token_ids(self) -> list[int]:
        """The sampled tokens, as a new list."""
        return self.tokens[self.num_prompt_tokens :]

    @property
    def has_siblings(self) -> bool:
        """Whether its request asked for several sequences."""
        return self.params.n > 1

    @property
    def skips_cache(self) -> bool:
        """Whether the logits of every prompt token are wanted, and not had yet."""
        return (
            self.params.prompt_logprobs is not None
            and self.index == 0
            and len(self.tokens) == self.num_prompt_tokens
        )
