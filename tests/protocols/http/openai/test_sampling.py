import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.http.openai.sampling import (
    COMPLETION_MAX_TOKENS,
    chat_params,
    completion_params,
    fitted,
)
from inferd.schemas.openai import ChatRequest, CompletionRequest
from inferd.types.generation import SamplingParams

DEFAULTS = SamplingParams(temperature=0.6, top_p=0.9, top_k=20)


def test_who_says_nothing_gets_the_models_defaults() -> None:
    assert chat_params(ChatRequest(), DEFAULTS) == DEFAULTS
    completed = completion_params(CompletionRequest(), DEFAULTS)
    assert (completed.temperature, completed.top_k) == (0.6, 20)
    assert completed.max_tokens == COMPLETION_MAX_TOKENS


def test_the_model_may_say_how_long_a_completion_is() -> None:
    defaults = SamplingParams(max_tokens=99)
    assert completion_params(CompletionRequest(), defaults).max_tokens == 99
    assert completion_params(CompletionRequest(max_tokens=3), defaults).max_tokens == 3


def test_what_is_said_goes_before_the_defaults() -> None:
    asked = ChatRequest(
        temperature=0.0, top_k=-1, stop="x", stop_token_ids=[3], bad_words=["y"],
        logit_bias={"7": 1.5}, max_tokens=5, max_completion_tokens=6, logprobs=True,
    )  # fmt: skip
    params = chat_params(asked, DEFAULTS)
    assert (params.temperature, params.top_p, params.top_k) == (0.0, 0.9, 0)
    assert (params.stop, params.stop_token_ids, params.bad_words) == (("x",), (3,), ("y",))
    assert (params.logit_bias, params.max_tokens, params.logprobs) == ({7: 1.5}, 6, 0)


@pytest.mark.parametrize(
    ("echo", "max_tokens", "logprobs", "scored"),
    [
        (True, 1, 2, 2), (True, 1, None, None), (True, 0, None, 0), (True, 0, 3, 3),
        (False, 1, 2, None),
    ],
)  # fmt: skip
def test_a_prompt_is_scored_where_it_is_echoed_with_logprobs(
    echo: bool, max_tokens: int, logprobs: int | None, scored: int | None
) -> None:
    asked = CompletionRequest(echo=echo, max_tokens=max_tokens, logprobs=logprobs)
    params = completion_params(asked, DEFAULTS)
    assert (params.prompt_logprobs, params.logprobs) == (scored, logprobs)


@pytest.mark.parametrize(
    ("explicit", "prompt_len", "expected"),
    [(False, 90, 10), (False, 10, 50), (True, 90, 50), (False, 100, 50)],
)
def test_only_a_default_is_cut_to_what_fits(explicit: bool, prompt_len: int, expected: int) -> None:
    params = fitted(SamplingParams(max_tokens=50), explicit, 100, prompt_len)
    assert params.max_tokens == expected


def test_keys_that_are_no_ids_are_told() -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        chat_params(ChatRequest(logit_bias={"x": 1.0}), DEFAULTS)
