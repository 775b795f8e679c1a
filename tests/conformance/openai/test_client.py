"""What the stock openai client asks and understands."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from conformance.openai.conftest import TENSORS, TINY, VERSIONED
from lifecycle.process import ServerProcess, wait_until

MESSAGES: list[Any] = [
    {"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hello!"},
]  # fmt: skip
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [TINY, VERSIONED]
    assert client.models.retrieve(TINY).id == TINY
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(TENSORS)


def test_a_chat_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=TINY, messages=MESSAGES, **GREEDY)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    stream = client.chat.completions.create(
        model=TINY, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    text, usage, ends = "", None, []
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            ends += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content
    assert ends == [whole.choices[0].finish_reason] == ["length"]
    assert usage is not None
    assert usage.total_tokens == whole.usage.total_tokens


def test_the_clients_own_stream_helper_accumulates(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=TINY, messages=MESSAGES, **GREEDY)
    text = whole.choices[0].message.content or ""
    stop = text[-3:]  # the helper takes an answer that was cut off for an error
    asked: dict[str, Any] = {"model": TINY, "messages": MESSAGES, "stop": stop, **GREEDY}
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == text[: text.index(stop)]


def test_a_batch_says_what_each_says_alone(client: openai.OpenAI) -> None:
    prompts = ["Hello", "import json", "def f(x):", "The quick brown fox"]
    alone = [
        client.completions.create(model=TINY, prompt=prompt, **GREEDY).choices[0].text
        for prompt in prompts
    ]
    together = client.completions.create(model=TINY, prompt=prompts, **GREEDY)
    assert [choice.text for choice in together.choices] == alone

    def streamed(prompt: str) -> str:
        stream = client.completions.create(model=TINY, prompt=prompt, stream=True, **GREEDY)
        return "".join(chunk.choices[0].text for chunk in stream)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(streamed, prompts)) == alone


def test_a_prompt_of_ids_is_scored(client: openai.OpenAI) -> None:
    ids = [5, 60, 7, 80, 9]
    body = client.completions.create(
        model=TINY, prompt=[ids, ids[:3]], echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    for choice, prompt in zip(body.choices, (ids, ids[:3]), strict=True):
        listed = choice.logprobs
        assert listed is not None
        assert listed.token_logprobs is not None
        assert len(listed.token_logprobs) == len(prompt) + 1
        assert listed.token_logprobs[0] is None
        assert all(score <= 0 for score in listed.token_logprobs[1:])
    first, second = (choice.logprobs for choice in body.choices)
    assert first is not None
    assert second is not None
    assert first.token_logprobs is not None
    assert second.token_logprobs is not None
    assert first.token_logprobs[1:3] == pytest.approx(second.token_logprobs[1:3], abs=1e-4)


def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    body = client.chat.completions.create(
        model=TINY, messages=MESSAGES, logprobs=True, top_logprobs=3, **GREEDY
    )
    listed = body.choices[0].logprobs
    assert listed is not None
    assert listed.content is not None
    assert len(listed.content) == 12
    for entry in listed.content:
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert len(entry.top_logprobs) == 3


def test_a_seed_gives_the_same_again(client: openai.OpenAI) -> None:
    def said() -> list[str | None]:
        body = client.chat.completions.create(
            model=TINY, messages=MESSAGES, temperature=1.0, seed=11, n=3, max_tokens=8
        )
        return [choice.message.content for choice in body.choices]

    assert said() == said()
    assert len(set(said())) > 1


def test_what_the_makers_recommend_is_the_default(client: openai.OpenAI) -> None:
    body = client.chat.completions.create(model=VERSIONED, messages=MESSAGES)
    assert body.usage is not None
    assert body.usage.completion_tokens == 5
    again = client.chat.completions.create(model=VERSIONED, messages=MESSAGES)
    assert again.choices[0].message.content == body.choices[0].message.content


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=VERSIONED, prompt=[5] * 80)
    assert long.value.code == "context_length_exceeded"
    assert "maximum context length is 64 tokens" in long.value.message
    assert "80" in long.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=TINY, messages=MESSAGES, top_p=7)
    assert wrong.value.param == "top_p"
    with pytest.raises(openai.BadRequestError, match="not a language model"):
        client.chat.completions.create(model=TENSORS, messages=MESSAGES)


def test_leaving_a_stream_frees_its_blocks(client: openai.OpenAI, server: ServerProcess) -> None:
    stream = client.completions.create(
        model=TINY, prompt="Hello", stream=True, max_tokens=240, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()

    def free() -> bool:
        page = server.get("/metrics").body.decode()
        lines = [line for line in page.splitlines() if f'model_name="{TINY}"' in line]
        return any(
            line.startswith("vllm:num_requests_running") and line.endswith(" 0.0") for line in lines
        )

    wait_until(free, "blocks are free")


def test_load_and_unload(client: openai.OpenAI, server: ServerProcess) -> None:
    assert server.state(VERSIONED, "3") == "READY"
    assert server.unload(VERSIONED).status == 200
    with pytest.raises(openai.InternalServerError) as gone:
        client.completions.create(model=VERSIONED, prompt="x")
    assert gone.value.status_code == 503
    assert [model.id for model in client.models.list()] == [TINY]
    assert server.load(VERSIONED).status == 200
    assert client.completions.create(model=VERSIONED, prompt="x", max_tokens=1).choices
    assert server.state(VERSIONED, "3") == "READY"


def test_metrics_have_vllms_names(client: openai.OpenAI, server: ServerProcess) -> None:
    client.completions.create(model=TINY, prompt="Hello", max_tokens=3)
    page = server.get("/metrics").body.decode()
    for name in (
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:num_preemptions_total",
        "vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_sum",
        "vllm:e2e_request_latency_seconds_count", "inferd_kv_waste_ratio",
    ):  # fmt: skip
        assert f'{name}{{engine="1",' in page, name
    assert 'vllm:request_success_total{engine="1",finished_reason="length"' in page
