import math
from typing import Any

import pytest

from inferd.engine.sample.params import check
from inferd.errors import InvalidRequest
from inferd.types.generation import SamplingParams


def _check(prompt_len: int = 10, max_logprobs: int = 20, **fields: Any) -> None:
    check(SamplingParams(**fields), 100, 64, prompt_len, max_logprobs)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0},
        {"temperature": 7.5},
        {"top_p": 1e-9},
        {"min_p": 1},
        {"top_k": 0},
        {"top_k": 10**9},
        {"presence_penalty": -2, "frequency_penalty": 2},
        {"repetition_penalty": 1e-3},
        {"n": 128},
        {"max_tokens": 54},
        {"max_tokens": 0, "prompt_logprobs": 0},
        {"max_tokens": 0, "prompt_logprobs": 0, "prompt_len": 64},
        {"max_tokens": 5, "min_tokens": 5},
        {"min_tokens": 5},
        {"seed": -(2**63)},
        {"seed": 2**63 - 1},
        {"logprobs": 0},
        {"logprobs": 20},
        {"logprobs": -1, "max_logprobs": -1},
        {"logprobs": 100, "max_logprobs": -1},
        {"logit_bias": {0: -100, 99: 1000}},
        {"allowed_token_ids": (0, 99)},
        {"stop_token_ids": (0, 99), "stop": ("a",)},
        {"bad_words": ("a",), "bad_words_token_ids": ((1, 2), (3,))},
    ],
)
def test_allowed(fields: dict[str, Any]) -> None:
    _check(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0}, r"top_p must be in \(0, 1\], got 0"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"min_p": -0.1}, r"min_p must be in \[0, 1\]"),
        ({"min_p": 1.1}, "min_p"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"presence_penalty": 2.1}, "presence_penalty must be in"),
        ({"frequency_penalty": -2.1}, "frequency_penalty must be in"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty must be greater than 0"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"n": 0}, "n must be at least 1"),
        ({"n": 2, "temperature": 0}, "n must be 1 with temperature 0, got 2"),
        ({"seed": 2**63}, "seed must be a 64-bit"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": -1, "prompt_logprobs": 1}, "max_tokens must be at least 1, got -1"),
        ({"min_tokens": -1}, "min_tokens must be at least 0"),
        ({"min_tokens": 6, "max_tokens": 5}, r"min_tokens \(6\) .* max_tokens \(5\)"),
        ({"logprobs": 21}, "logprobs must be from 0 to 20, got 21"),
        ({"logprobs": -1}, "logprobs must be from 0 to 20, got -1"),
        ({"prompt_logprobs": 21}, "prompt_logprobs must be from 0 to 20"),
        ({"logprobs": 101, "max_logprobs": -1}, "logprobs must be from 0 to 100"),
        ({"logit_bias": {100: 1.0}}, "logit_bias contains token id 100, .* of 100 tokens"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias contains token id -1"),
        ({"logit_bias": {1: math.nan}}, "logit_bias of token 1"),
        ({"allowed_token_ids": ()}, "allowed_token_ids must not be empty"),
        ({"allowed_token_ids": (100,)}, "allowed_token_ids contains token id 100"),
        ({"stop_token_ids": (100,)}, "stop_token_ids contains token id 100"),
        ({"stop": ("a", "")}, "stop must not contain an empty string"),
        ({"bad_words": ("",)}, "bad_words must not contain an empty string"),
        ({"bad_words_token_ids": ((),)}, "bad_words_token_ids must not hold an empty"),
        ({"bad_words_token_ids": ((1, 100),)}, "bad_words_token_ids contains token id 100"),
        ({"prompt_len": 0}, "the prompt is empty"),
    ],
)
def test_refused_with_field_and_fix(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        _check(**fields)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({"prompt_len": 65}, ["65"]),
        ({"prompt_len": 64}, ["64"]),
        ({"prompt_len": 10, "max_tokens": 55}, ["65", "10", "55", "54"]),
        ({"prompt_len": 65, "max_tokens": 0, "prompt_logprobs": 1}, ["65"]),
    ],
)
def test_too_long_names_all_numbers(fields: dict[str, Any], numbers: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="maximum context length is 64 tokens") as caught:
        _check(**fields)
    assert all(number in str(caught.value) for number in numbers)
