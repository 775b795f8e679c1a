import json
from typing import Any

import pytest

from protocols.http.openai.toy import NAME, Toy, with_toy

PATH = f"/v2/models/{NAME}/generate"


def after(toy: Toy, text: str, count: int = 4) -> str:
    last = toy.ids(text, special=True)[-1]
    return toy.text(*range(last + 1, last + 1 + count))


@with_toy()
async def test_text_in_and_text_out(toy: Toy) -> None:
    answer = await toy.post(PATH, text_input="hello", max_tokens=4, temperature=0, id="mine")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "mine", "model_name": NAME, "model_version": "1",
        "text_output": "hello" + after(toy, "hello"),
    }  # fmt: skip


@with_toy()
async def test_parameters_of_both_backends(toy: Toy) -> None:
    for body in (
        {"parameters": {"max_tokens": 4, "temperature": 0, "stream": False}},
        {"parameters": {"sampling_parameters": json.dumps({"max_tokens": 4, "temperature": "0"})}},
        {"max_tokens": 4, "bad_words": "", "stop_words": "", "random_seed": 1, "top_k": 1},
    ):
        answer = await toy.post(PATH, text_input="hello", exclude_input_in_output=True, **body)
        assert answer.json()["text_output"] == after(toy, "hello"), body


@with_toy()
async def test_several_texts(toy: Toy) -> None:
    answer = await toy.post(PATH, text_input="hello", n=2, max_tokens=2, top_k=1)
    assert answer.json()["text_output"] == ["hello" + after(toy, "hello", 2)] * 2


@with_toy()
async def test_text_is_streamed_without_the_prompt(toy: Toy) -> None:
    answer = await toy.post(f"{PATH}_stream", text_input="hello", max_tokens=4, temperature=0)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *lines, rest = answer.text.split("\n\n")
    assert rest == ""
    pieces = [json.loads(line.removeprefix("data: "))["text_output"] for line in lines]
    assert "".join(pieces) == after(toy, "hello")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "'text_input' of model 'toy' must be a text"),
        ({"text_input": ""}, "'text_input' of model 'toy' must be a text"),
        ({"text_input": "a", "max_tokens": "many"}, "max_tokens"),
        ({"text_input": "a", "temperature": -1}, "temperature"),
        ({"text_input": "a", "parameters": 3}, "Expected JSON object for keyword: 'parameters'"),
        ({"text_input": "a", "sampling_parameters": "{"}, "'sampling_parameters' must be"),
        ({"text_input": "a", "use_beam_search": True}, "beam search"),
    ],
)
def test_what_cannot_be_asked(folder: Any, body: dict[str, Any], said: str) -> None:
    @with_toy()
    async def run(toy: Toy) -> None:
        answer = await toy.post(PATH, **body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]

    run(folder)


@with_toy()
async def test_streams_are_of_one_text(toy: Toy) -> None:
    answer = await toy.post(f"{PATH}_stream", text_input="hello", n=2)
    assert (answer.status_code, answer.json()) == (
        400, {"error": "n must be 1 where text is streamed"},
    )  # fmt: skip
