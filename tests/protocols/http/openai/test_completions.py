from typing import Any

import pytest

from protocols.http.openai.toy import NAME, Toy, error_of, with_toy

PATH = "/v1/completions"


def after(token_id: int, count: int = 4) -> list[int]:
    return list(range(token_id + 1, token_id + 1 + count))


@with_toy()
async def test_an_answer_has_the_apis_shape(toy: Toy) -> None:
    body = await toy.complete("hello")
    prompt = toy.ids("hello", special=True)
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", NAME)
    (choice,) = body["choices"]
    assert choice == {
        "index": 0, "text": toy.text(*after(prompt[-1])), "logprobs": None,
        "finish_reason": "length", "stop_reason": None,
    }  # fmt: skip
    assert body["usage"]["prompt_tokens"] == len(prompt)


@with_toy()
async def test_sixteen_tokens_where_nobody_says_and_less_where_there_is_no_room(toy: Toy) -> None:
    assert (await toy.complete("hello", max_tokens=None))["usage"]["completion_tokens"] == 16
    long = [5] * (toy.llm.max_len - 3)
    assert (await toy.complete(long, max_tokens=None))["usage"]["completion_tokens"] == 3


@with_toy()
async def test_a_prompt_may_be_text_ids_or_a_list_of_either(toy: Toy) -> None:
    ids = toy.ids("hello", special=True)
    whole = (await toy.complete("hello"))["choices"][0]["text"]
    assert (await toy.complete(ids))["choices"][0]["text"] == whole
    several = await toy.complete([ids, [5], [9, 8]])
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    assert [choice["text"] for choice in several["choices"]] == [
        whole, toy.text(*after(5)), toy.text(*after(8)),
    ]  # fmt: skip
    assert several["usage"]["prompt_tokens"] == len(ids) + 3
    assert several["usage"]["completion_tokens"] == 12
    assert len((await toy.complete(["hello", "world"]))["choices"]) == 2


@with_toy()
async def test_choices_are_ordered_by_prompt_and_then_by_number(toy: Toy) -> None:
    body = await toy.complete([[50], [90]], n=2, temperature=1e-9, max_tokens=2)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in body["choices"]] == [
        *[toy.text(51, 52)] * 2, *[toy.text(91, 92)] * 2,
    ]  # fmt: skip


@with_toy()
async def test_streams_of_several_prompts_end_each_once(toy: Toy) -> None:
    chunks = await toy.stream(
        PATH, prompt=[[50], [90, 91]], temperature=0, max_tokens=6,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *chunks, last = chunks
    texts, ends = ["", ""], [0, 0]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] += choice["finish_reason"] is not None
    assert texts == [toy.text(*after(50, 6)), toy.text(*after(91, 6))]
    assert ends == [1, 1]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 15)


@with_toy()
async def test_a_scored_prompt_is_aligned_with_its_tokens(toy: Toy) -> None:
    """What lm-eval's local-completions asks."""
    prompts = [toy.ids("hello world"), toy.ids("import json")]
    body = await toy.complete(prompts, echo=True, max_tokens=1, logprobs=1, seed=1234)
    for prompt, choice in zip(prompts, body["choices"], strict=True):
        listed = choice["logprobs"]
        assert {len(value) for value in listed.values()} == {len(prompt) + 1}
        assert listed["token_logprobs"][0] is None
        assert listed["top_logprobs"][0] is None
        assert listed["tokens"] == [toy.text(i) for i in [*prompt, prompt[-1] + 1]]
        assert "".join(listed["tokens"]) == choice["text"]
        assert listed["text_offset"] == [
            len("".join(listed["tokens"][:number])) for number in range(len(listed["tokens"]))
        ]
        greedy = [max(top, key=top.get) for top in listed["top_logprobs"][1:]]
        assert greedy == [toy.text(token_id + 1) for token_id in prompt]
        for token, score, top in zip(
            listed["tokens"][1:], listed["token_logprobs"][1:], listed["top_logprobs"][1:],
            strict=True,
        ):  # fmt: skip
            assert top[token] == score
            assert len(top) in (1, 2)


@pytest.mark.parametrize("stream", [False, True])
@with_toy()
async def test_a_prompt_may_only_be_scored(toy: Toy, stream: bool) -> None:
    asked: dict[str, Any] = {"echo": True, "max_tokens": 0, "logprobs": 0, "temperature": 0}
    ids = toy.ids("hello world")
    if stream:
        first, last = (c["choices"][0] for c in await toy.stream(PATH, prompt=ids, **asked))
        assert (last["text"], last["finish_reason"]) == ("", "length")
    else:
        first = (await toy.complete(ids, **asked))["choices"][0]
        assert first["finish_reason"] == "length"
    assert first["text"] == "hello world"
    assert len(first["logprobs"]["tokens"]) == len(ids)
    assert [len(top) for top in first["logprobs"]["top_logprobs"][1:]] == [1] * (len(ids) - 1)


@with_toy()
async def test_a_prompt_may_only_be_written_back(toy: Toy) -> None:
    body = await toy.complete("hello", echo=True, max_tokens=0)
    assert (body["choices"][0]["text"], body["usage"]["completion_tokens"]) == ("hello", 0)
    assert body["choices"][0]["logprobs"] is None


@with_toy()
async def test_a_stream_echoes_with_scores_before_all_else(toy: Toy) -> None:
    asked: dict[str, Any] = {"echo": True, "logprobs": 1, "n": 2, "temperature": 1e-9}
    ids = toy.ids("hello world")
    whole = (await toy.complete(ids, **asked))["choices"]
    chunks = await toy.stream(PATH, prompt=ids, max_tokens=4, **asked)
    for index in (0, 1):
        pieces = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == whole[index]["text"]
        for name, values in whole[index]["logprobs"].items():
            joined = [v for p in pieces if p["logprobs"] for v in p["logprobs"][name]]
            assert joined == values, name


@with_toy()
async def test_logprobs_have_the_sampled_token_and_the_likeliest(toy: Toy) -> None:
    body = await toy.complete([50], logprobs=2)
    listed = body["choices"][0]["logprobs"]
    assert listed["tokens"] == [toy.text(i) for i in after(50)]
    assert all(len(top) in (2, 3) for top in listed["top_logprobs"])
    zero = (await toy.complete([50], logprobs=0))["choices"][0]["logprobs"]
    assert [list(top) for top in zero["top_logprobs"]] == [[token] for token in zero["tokens"]]


@with_toy()
async def test_what_cannot_be_is_not_infinite(toy: Toy) -> None:
    body = await toy.complete([50], logprobs=1, logit_bias={"51": -100, "52": -100})
    assert all(score > -1e4 for score in body["choices"][0]["logprobs"]["token_logprobs"])


@with_toy()
async def test_prompt_logprobs_are_by_id(toy: Toy) -> None:
    choice = (await toy.complete([50, 51, 60], prompt_logprobs=1))["choices"][0]
    first, second, third = choice["prompt_logprobs"]
    assert first is None
    assert list(second) == ["51"]
    assert (second["51"]["rank"], second["51"]["decoded_token"]) == (1, toy.text(51))
    assert set(third) == {"52", "60"}


@with_toy()
async def test_a_prompt_may_be_cut(toy: Toy) -> None:
    asked = {"max_tokens": 1, "return_token_ids": True}
    long = list(range(4, 300))
    left = await toy.complete(long, truncate_prompt_tokens=5, **asked)
    assert left["choices"][0]["prompt_token_ids"] == long[-5:]
    right = await toy.complete(long, truncate_prompt_tokens=5, truncation_side="right", **asked)
    assert right["choices"][0]["prompt_token_ids"] == long[:5]
    most = await toy.complete(long, truncate_prompt_tokens=-1, **asked)
    assert most["usage"]["total_tokens"] == toy.llm.max_len
    assert most["choices"][0]["token_ids"] == [300]


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"prompt": None}, "prompt", "required"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": [[]]}, "prompt", "empty"),
        ({"prompt": ["a", ""]}, "prompt", "prompt 1 is empty"),
        ({"prompt": {"a": 1}}, "prompt", "text, token ids"),
        ({"prompt": [1, "a"]}, "prompt", "integers"),
        ({"prompt": [[1, True]]}, "prompt", "integers"),
        ({"prompt": [-1]}, "prompt", "-1"),
        ({"prompt": [[5]] * 1025}, "prompt", "at most 1024"),
        ({"prompt": [10**6]}, "prompt", "1000000"),
        ({"prompt_embeds": "x"}, "prompt_embeds", "not supported yet"),
        ({"suffix": "x"}, "suffix", "not supported yet"),
        ({"best_of": 2}, "best_of", "same as n"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"logprobs": 21}, "logprobs", "from 0 to 20"),
        ({"logprobs": True}, "logprobs", "expected"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "from 1"),
        ({"truncation_side": "up", "truncate_prompt_tokens": 1}, "truncation_side", "left or"),
        ({"max_tokens": 1000}, "max_tokens", "maximum context length is 128 tokens"),
    ],
)
@with_toy()
async def test_what_is_wrong_is_400_and_named(
    toy: Toy, more: dict[str, Any], param: str, said: str
) -> None:
    asked = {"model": NAME, "prompt": "hello", "temperature": 0} | more
    error = error_of(await toy.client.post(PATH, json=asked), 400)
    assert said in error["message"]
    if "maximum" not in said:
        assert error["param"] == param


@with_toy()
async def test_one_bad_prompt_of_several_fails_them_all_and_nothing_runs(toy: Toy) -> None:
    asked = {"model": NAME, "prompt": [[5], [10**6]]}
    error_of(await toy.client.post(PATH, json=asked), 400)
    assert toy.runner.batches == []
