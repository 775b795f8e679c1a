"""From the fields of a request to SamplingParams: names, defaults, and OpenAI's ways of writing
things. Pure. Which values are allowed is said by the engine.
"""

from typing import Any

import msgspec

from inferd.protocols.http.openai.errors import FieldError
from inferd.schemas.openai import ChatRequest, CompletionRequest, GenerationFields
from inferd.types.generation import SamplingParams

_SAME = (
    "n", "min_tokens", "temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "include_stop_str_in_output", "ignore_eos", "seed", "prompt_logprobs",
    "skip_special_tokens",
)  # fmt: skip
"""Fields whose name and value are those of SamplingParams."""

_TUPLES = ("allowed_token_ids", "bad_words", "stop_token_ids")

COMPLETION_MAX_TOKENS = 16
"""What a completion generates when nobody says how much."""


def completion_params(fields: CompletionRequest, defaults: SamplingParams) -> SamplingParams:
    """How to sample a completion; raises FieldError."""
    given = _given(fields)
    given["logprobs"] = fields.logprobs
    if fields.max_tokens is not None:
        given["max_tokens"] = fields.max_tokens
    elif defaults.max_tokens is None:
        given["max_tokens"] = COMPLETION_MAX_TOKENS
    if fields.echo:
        # With nothing to generate, a prompt is scored, or only written back.
        asked = fields.logprobs if fields.logprobs is not None else fields.prompt_logprobs
        if asked is None and fields.max_tokens == 0:
            asked = 0
        given["prompt_logprobs"] = asked
    return msgspec.structs.replace(defaults, **given)


def chat_params(fields: ChatRequest, defaults: SamplingParams) -> SamplingParams:
    """How to sample an answer; raises FieldError."""
    given = _given(fields)
    max_tokens = fields.max_completion_tokens
    if max_tokens is None:
        max_tokens = fields.max_tokens
    if max_tokens is not None:
        given["max_tokens"] = max_tokens
    if fields.top_logprobs is not None and not fields.logprobs:
        raise FieldError("top_logprobs needs logprobs to be true", "top_logprobs")
    if fields.logprobs:
        given["logprobs"] = fields.top_logprobs or 0
    return msgspec.structs.replace(defaults, **given)


def fitted(params: SamplingParams, explicit: bool, max_len: int, prompt_len: int) -> SamplingParams:
    """The same with `max_tokens` cut to what the model has room for, unless the caller set it."""
    if explicit or params.max_tokens is None or prompt_len >= max_len:
        return params
    return msgspec.structs.replace(params, max_tokens=min(params.max_tokens, max_len - prompt_len))


def _given(fields: GenerationFields) -> dict[str, Any]:
    given = {name: value for name in _SAME if (value := getattr(fields, name)) is not None}
    for name in _TUPLES:
        value = getattr(fields, name)
        if value is not None:
            given[name] = tuple(value)
    if fields.top_k is not None:
        given["top_k"] = 0 if fields.top_k == -1 else fields.top_k
    if fields.stop is not None:
        given["stop"] = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop)
    if fields.logit_bias:
        given["logit_bias"] = {_token_id(key): bias for key, bias in fields.logit_bias.items()}
    return given


def _token_id(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FieldError(
            f"logit_bias has the key '{text}'; keys must be token ids", "logit_bias"
        ) from None
