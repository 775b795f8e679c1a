"""Which sampling parameters are allowed: every range and every pair that cannot go together.

It refuses to know how the parameters were written on the wire and how they are carried out.
"""

import math
from collections.abc import Iterable

from inferd.errors import InvalidRequest
from inferd.types.generation import SamplingParams

_INT64 = range(-(2**63), 2**63)


def check(
    params: SamplingParams,
    vocab_size: int,
    max_model_len: int,
    prompt_len: int,
    max_logprobs: int = 20,
) -> None:
    """Raise InvalidRequest, naming field and fix, for the first thing that is wrong.

    `prompt_len` and `max_model_len` count tokens. `max_logprobs` is the most that a caller may ask
    for; with -1 any number is allowed, and -1 asks for the whole vocabulary.
    """
    _check_lengths(params, max_model_len, prompt_len)
    _check_ranges(params)
    _check_logprobs("logprobs", params.logprobs, vocab_size, max_logprobs)
    _check_logprobs("prompt_logprobs", params.prompt_logprobs, vocab_size, max_logprobs)
    _check_tokens(params, vocab_size)
    _check_words("stop", params.stop)
    _check_words("bad_words", params.bad_words)


def _check_lengths(params: SamplingParams, max_model_len: int, prompt_len: int) -> None:
    asked = params.max_tokens
    if prompt_len < 1:
        raise InvalidRequest("the prompt is empty; send at least one token")
    if asked is not None and asked < 1 and not (asked == 0 and params.prompt_logprobs is not None):
        raise InvalidRequest(
            f"max_tokens must be at least 1, got {asked}; 0 only scores a prompt, together with "
            "prompt_logprobs (echo and logprobs)"
        )
    if params.min_tokens < 0:
        raise InvalidRequest(f"min_tokens must be at least 0, got {params.min_tokens}")
    if asked is not None and params.min_tokens > asked:
        raise InvalidRequest(
            f"min_tokens ({params.min_tokens}) must not be greater than max_tokens ({asked})"
        )
    limit = f"This model's maximum context length is {max_model_len} tokens"
    if prompt_len > max_model_len or (prompt_len == max_model_len and asked != 0):
        raise InvalidRequest(
            f"{limit}, and the prompt has {prompt_len}, which leaves no room for an answer; "
            "shorten the prompt"
        )
    if asked is not None and prompt_len + asked > max_model_len:
        raise InvalidRequest(
            f"{limit}. However, you requested {prompt_len + asked} tokens ({prompt_len} in the "
            f"prompt, {asked} as max_tokens); shorten the prompt or ask for max_tokens of at most "
            f"{max_model_len - prompt_len}"
        )


def _check_ranges(params: SamplingParams) -> None:
    if params.n < 1:
        raise InvalidRequest(f"n must be at least 1, got {params.n}")
    if not 0 <= params.temperature < math.inf:  # written so that NaN fails too, here and below
        raise InvalidRequest(f"temperature must be 0 or more, got {params.temperature}")
    if params.n > 1 and params.temperature == 0:
        raise InvalidRequest(
            f"n must be 1 with temperature 0, got {params.n}: greedy sequences are all the same; "
            "raise the temperature or ask for one"
        )
    if params.top_k < 0:
        raise InvalidRequest(f"top_k must be 0 (off) or more, got {params.top_k}")
    if not 0 < params.top_p <= 1:
        raise InvalidRequest(f"top_p must be in (0, 1], got {params.top_p}; 1 turns it off")
    if not 0 <= params.min_p <= 1:
        raise InvalidRequest(f"min_p must be in [0, 1], got {params.min_p}; 0 turns it off")
    if not 0 < params.repetition_penalty < math.inf:
        raise InvalidRequest(
            f"repetition_penalty must be greater than 0, got {params.repetition_penalty}; "
            "1 turns it off"
        )
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(params, name)
        if not -2 <= value <= 2:
            raise InvalidRequest(f"{name} must be in [-2, 2], got {value}; 0 turns it off")
    if params.seed is not None and params.seed not in _INT64:
        raise InvalidRequest(f"seed must be a 64-bit signed integer, got {params.seed}")


def _check_logprobs(name: str, count: int | None, vocab_size: int, limit: int) -> None:
    if count is None:
        return
    most = vocab_size if limit == -1 else limit
    if not 0 <= count <= most and not (count == -1 and limit == -1):
        raise InvalidRequest(f"{name} must be from 0 to {most}, got {count}")


def _check_tokens(params: SamplingParams, vocab_size: int) -> None:
    bias = params.logit_bias
    if bias:
        _check_ids("logit_bias", bias, vocab_size)
        for token_id, value in bias.items():
            if not math.isfinite(value):
                raise InvalidRequest(
                    f"logit_bias of token {token_id} must be a number from -100 to 100, got {value}"
                )
    if params.allowed_token_ids is not None:
        if not params.allowed_token_ids:
            raise InvalidRequest("allowed_token_ids must not be empty; leave it out to allow all")
        _check_ids("allowed_token_ids", params.allowed_token_ids, vocab_size)
    _check_ids("stop_token_ids", params.stop_token_ids, vocab_size)
    for word in params.bad_words_token_ids:
        if not word:
            raise InvalidRequest("bad_words_token_ids must not hold an empty sequence; remove it")
        _check_ids("bad_words_token_ids", word, vocab_size)


def _check_ids(name: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise InvalidRequest(
                f"{name} contains token id {token_id}, which is not in the vocabulary of "
                f"{vocab_size} tokens; ids go from 0 to {vocab_size - 1}"
            )


def _check_words(name: str, words: tuple[str, ...]) -> None:
    if not all(words):
        raise InvalidRequest(f"{name} must not contain an empty string; remove it")
