"""One request to a language model and what comes back, the same on every protocol.

Names and meaning of sampling parameters are vLLM's, so that clients written for it keep working.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "abort", "error"]
"""stop: an end token, stop token or stop string; length: max_tokens or the model's length."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are chosen and when a generation ends. Checked by `engine.sample.params.check`.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and penalties of 0 (`repetition_`: 1)
    are off. `max_tokens` None fills the model's length. `seed` None differs from run to run.
    Strings (`stop`, `bad_words`) become tokens or are matched where the text is, not in the engine.
    """

    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()
    """What `bad_words` became: sequences of tokens whose last token is never sampled after the
    ones before it."""
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None
    """How many of the likeliest tokens to report with each sampled one; None reports nothing."""
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True


class GenerationRequest(msgspec.Struct, kw_only=True, eq=False):
    """A prompt as token ids. A smaller `priority` goes first; `tenant` is who shares fairly;
    `cache_salt` keeps cached prefixes apart. `arrival_s` is on `time.monotonic`."""

    id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    priority: int = 0
    tenant: str = ""
    cache_salt: str = ""
    arrival_s: float = 0.0


class TokenLogprobs(msgspec.Struct, array_like=True):
    """Of one token: its log probability and rank (1 is the likeliest), and the likeliest tokens
    with theirs, in falling order. Raw: before temperature, penalties and masks."""

    token_id: int
    logprob: float
    rank: int
    top: list[tuple[int, float]]


class GenerationDelta(msgspec.Struct, kw_only=True, eq=False):
    """What is new for one sequence of a request; `index` is its number among `n`.

    `text` is what has become certain: incomplete characters and possible beginnings of stop
    strings are held back. The last delta has a `finish_reason`; `stop_reason` is the stop string
    or stop token that ended it, None for an end token. `prompt_logprobs` come once, with the first
    delta of sequence 0; the first prompt token has None.
    """

    index: int
    token_ids: list[int]
    text: str = ""
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_cached_tokens: int = 0
    """Prompt tokens that were found in the prefix cache."""
    queue_s: float | None = None
    """Seconds from arrival until its first token was computed on; with its first delta."""


class Generation(msgspec.Struct, kw_only=True, eq=False):
    """One finished sequence: the deltas joined."""

    index: int
    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    logprobs: list[TokenLogprobs] | None = None


class GenerationOutput(msgspec.Struct, kw_only=True, eq=False):
    """All sequences of one request, by index."""

    id: str
    prompt_token_ids: list[int]
    generations: list[Generation]
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    num_cached_tokens: int = 0
