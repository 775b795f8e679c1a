from typing import Any

import pytest

from protocols.http.openai.toy import NAME, Toy, chat_body, error_of, with_toy

PATH = "/v1/chat/completions"


def rendered(content: str) -> str:
    """What the model's template makes of one message."""
    return f"<s><|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"


def expected(toy: Toy, prompt: str, count: int = 4) -> str:
    """What the toy says behind a prompt."""
    last = toy.ids(prompt)[-1]
    return toy.text(*range(last + 1, last + 1 + count))


@with_toy()
async def test_an_answer_has_the_apis_shape(toy: Toy) -> None:
    body = await toy.chat()
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", NAME)
    assert isinstance(body["created"], int)
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == expected(toy, rendered("hello"))
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    prompt = len(toy.ids(rendered("hello")))
    assert body["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": 4, "total_tokens": prompt + 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip


@with_toy()
async def test_the_same_prompt_again_is_found_in_the_cache(toy: Toy) -> None:
    await toy.chat()
    cached = (await toy.chat())["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    salted = await toy.chat(cache_salt="mine")
    assert salted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@with_toy()
async def test_a_stream_says_what_a_whole_answer_says(toy: Toy) -> None:
    options = {"include_usage": True}
    whole = await toy.chat(max_tokens=9)
    found = await toy.stream(PATH, **chat_body("hello", {"max_tokens": 9}), stream_options=options)
    *chunks, last = found
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in found}) == 1
    assert found[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(chunk["usage"] is None for chunk in chunks)
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ends == [*[None] * (len(chunks) - 1), "length"]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 9
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


@with_toy()
async def test_usage_is_only_in_a_stream_that_asks_and_may_be_in_every_chunk(toy: Toy) -> None:
    for chunk in await toy.stream(PATH, **chat_body("hello", {})):
        assert "usage" not in chunk
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await toy.stream(PATH, **chat_body("hello", {}), stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 4


@with_toy()
async def test_several_answers_each_have_their_number(toy: Toy) -> None:
    more = {"n": 3, "temperature": 1, "seed": 5}
    whole = await toy.chat(**more)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens"] == 12
    chunks = await toy.stream(PATH, **chat_body("hello", more))
    texts, opened = ["", "", ""], set()
    for chunk in chunks:
        (choice,) = chunk["choices"]
        if choice["index"] not in opened:
            assert choice["delta"]["role"] == "assistant"
            opened.add(choice["index"])
        texts[choice["index"]] += choice["delta"]["content"]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]


@with_toy()
async def test_logprobs_are_of_every_token_and_finite(toy: Toy) -> None:
    body = await toy.chat(logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == 4
    for entry in content:
        assert bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"]
        assert entry["top_logprobs"][0]["token"] == entry["token"]
        assert len(entry["top_logprobs"]) == 2
        assert entry["logprob"] < 0
    none = await toy.chat(logprobs=True)
    assert all(entry["top_logprobs"] == [] for entry in none["choices"][0]["logprobs"]["content"])
    chunks = await toy.stream(PATH, **chat_body("hello", {"logprobs": True, "top_logprobs": 2}))
    pieces = [c["choices"][0]["logprobs"]["content"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [entry for piece in pieces for entry in piece] == content


@with_toy()
async def test_tokens_may_be_written_as_ids(toy: Toy) -> None:
    body = await toy.chat(logprobs=True, return_tokens_as_token_ids=True, return_token_ids=True)
    ids = body["choices"][0]["token_ids"]
    tokens = [entry["token"] for entry in body["choices"][0]["logprobs"]["content"]]
    assert tokens == [f"token_id:{token_id}" for token_id in ids]
    assert body["prompt_token_ids"] == toy.ids(rendered("hello"))


@with_toy()
async def test_without_a_limit_the_context_is_filled(toy: Toy) -> None:
    body = await toy.chat(max_tokens=None)
    assert body["usage"]["total_tokens"] == toy.llm.max_len
    assert body["choices"][0]["finish_reason"] == "length"


@with_toy()
async def test_max_completion_tokens_wins(toy: Toy) -> None:
    body = await toy.chat(max_tokens=2, max_completion_tokens=3)
    assert body["usage"]["completion_tokens"] == 3


@with_toy()
async def test_a_stop_string_ends_and_is_not_shown(toy: Toy) -> None:
    text = expected(toy, rendered("hello"), 8)
    stop = text[3:5]
    body = await toy.chat(max_tokens=8, stop=stop)
    (choice,) = body["choices"]
    assert choice["message"]["content"] == text[: text.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    chunks = await toy.stream(PATH, **chat_body("hello", {"max_tokens": 8, "stop": [stop]}))
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == text[: text.index(stop)]


@with_toy()
async def test_a_stop_token_is_named(toy: Toy) -> None:
    last = toy.ids(rendered("hello"))[-1]
    (choice,) = (await toy.chat(stop_token_ids=[last + 2]))["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", last + 2)


@with_toy()
async def test_parts_of_text_are_joined_and_unknown_parts_left_out(toy: Toy) -> None:
    parts: list[Any] = [
        {"type": "text", "text": "hello"}, {"type": "thinking", "thinking": "hm"},
    ]  # fmt: skip
    joined = await toy.chat(parts)
    assert joined["usage"]["prompt_tokens"] == len(toy.ids(rendered("hello")))


@with_toy()
async def test_a_message_can_be_continued_and_echoed(toy: Toy) -> None:
    messages = [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": "I say"},
    ]  # fmt: skip
    more: dict[str, Any] = {
        "messages": messages, "continue_final_message": True, "add_generation_prompt": False,
    }  # fmt: skip
    prompt = rendered("hello") + "I say"
    text = expected(toy, prompt)
    plain = await toy.chat(**more)
    assert plain["choices"][0]["message"] == {
        "role": "assistant", "content": text, "refusal": None,
    }  # fmt: skip
    echoed = await toy.chat(**more, echo=True)
    assert echoed["choices"][0]["message"]["content"] == "I say" + text
    chunks = await toy.stream(PATH, **chat_body("", more | {"echo": True}))
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == "I say" + text


@with_toy()
async def test_a_template_of_ones_own_and_its_variables(toy: Toy) -> None:
    body = await toy.chat(
        chat_template="{{ greeting }} {{ messages[0].content }}",
        chat_template_kwargs={"greeting": "oh"}, return_token_ids=True,
    )  # fmt: skip
    assert body["prompt_token_ids"] == toy.ids("oh hello")


@with_toy()
async def test_prompt_logprobs_stand_beside_the_choices(toy: Toy) -> None:
    body = await toy.chat(prompt_logprobs=1, return_token_ids=True)
    scored = body["prompt_logprobs"]
    assert scored[0] is None
    assert len(scored) == body["usage"]["prompt_tokens"]
    for token_id, entry in zip(body["prompt_token_ids"][1:], scored[1:], strict=True):
        assert set(entry[str(token_id)]) == {"logprob", "rank", "decoded_token"}


@with_toy()
async def test_who_has_no_model_gets_the_only_one(toy: Toy) -> None:
    body = await toy.chat(model=None)
    assert body["model"] == NAME


@with_toy()
async def test_the_request_id_comes_back_and_may_name_the_answer(toy: Toy) -> None:
    headers = {"x-request-id": "mine-1", "authorization": "Bearer nobody"}
    body = chat_body("hello", {"request_id": "abc"})
    answer = await toy.client.post(PATH, json=body, headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["id"] == "chatcmpl-abc"


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"messages": []}, "messages", "empty"),
        ({"messages": None}, "messages", "required"),
        ({"messages": "hello"}, "messages", "expected"),
        ({"messages": [{"content": "x"}]}, "messages", "role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages", "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages", "'image_url' (in messages[0]) is not supported yet"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs", "from 0 to 20"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools", "not supported yet"),
        ({"stop": ["x"] * 129}, "stop", "at most 128"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"functions": [{"name": "f"}]}, "functions", "not supported yet"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported yet"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs", "not supported yet"),
        ({"guided_json": {}}, "guided_json", "not supported yet"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "one of"),
        ({"continue_final_message": True, "add_generation_prompt": True}, None, "exclude"),
        ({"temperature": -1}, "temperature", "0 or more"),
        ({"temperature": "hot"}, "temperature", "expected 'float | null', got 'str'"),
        ({"top_p": 0}, "top_p", "(0, 1]"),
        ({"n": 0}, "n", "at least 1"),
        ({"n": 2}, "n", "temperature 0"),
        ({"n": 1000, "temperature": 1}, "n", "at most 128"),
        ({"seed": 2**63}, "seed", "64-bit"),
        ({"logit_bias": {"5000": 1}}, "logit_bias", "5000"),
        ({"logit_bias": {"five": 1}}, "logit_bias", "five"),
        ({"stop": 3}, "stop", "expected"),
        ({"stop": [""]}, "stop", "empty"),
        ({"cache_salt": ""}, "cache_salt", "empty"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs", "stream"),
        ({"use_beam_search": True}, "use_beam_search", "not supported yet"),
        ({"max_tokens": 1.5}, "max_tokens", "expected"),
        ({"min_tokens": 5}, "min_tokens", "min_tokens (5)"),
        ({"chat_template": "{{"}, None, "mistake"),
    ],
)  # fmt: skip
@with_toy()
async def test_what_is_wrong_is_400_and_named(
    toy: Toy, more: dict[str, Any], param: str | None, said: str
) -> None:
    error = error_of(await toy.client.post(PATH, json=chat_body("hello", more)), 400)
    assert said in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@with_toy()
async def test_what_nobody_knows_is_passed_over(toy: Toy) -> None:
    more = {
        "store": True, "metadata": {}, "service_tier": "auto", "verbosity": "low", "tools": [],
        "parallel_tool_calls": True, "modalities": ["text"], "prediction": None, "xyzzy": [1],
        "thinking_token_budget": 5, "response_format": {"type": "text"}, "tool_choice": "none",
    }  # fmt: skip
    assert (await toy.chat(**more))["choices"]


@with_toy()
async def test_too_long_a_prompt_names_both_numbers(toy: Toy) -> None:
    error = error_of(await toy.client.post(PATH, json=chat_body("a b c d " * 100, {})), 400)
    assert error["code"] == "context_length_exceeded"
    assert f"maximum context length is {toy.llm.max_len} tokens" in error["message"]
    longer = error_of(await toy.client.post(PATH, json=chat_body("x", {"max_tokens": 500})), 400)
    assert "500" in longer["message"]
    assert longer["code"] == "context_length_exceeded"
