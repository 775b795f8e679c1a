"""Text from a language model of a server in this process."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import inferd
from inferd.errors import InvalidRequest, ModelNotFound
from tiny_llama import write_tiny_llama

CHAT = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[inferd.Server]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("text") / "tiny")
    with inferd.Server(folder, packed_cache=False) as made:
        yield made


def test_a_prompt_goes_on_alike_whole_in_pieces_and_awaited(llm: inferd.Server) -> None:
    model = llm.model("tiny")
    said: Any = {"max_tokens": 20, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    whole = model.generate("Hello", **said)
    (generation,) = whole.generations
    assert (len(generation.token_ids), generation.finish_reason) == (20, "length")
    assert generation.logprobs is not None
    assert len(generation.logprobs) == 20
    deltas = list(model.generate_stream("Hello", **said))
    assert "".join(delta.text for delta in deltas) == generation.text
    assert [delta.finish_reason for delta in deltas][-1] == "length"
    (again,) = model.generate(whole.prompt_token_ids, **said).generations
    assert again.token_ids == generation.token_ids

    async def ask() -> tuple[Any, str]:
        pieces = [delta.text async for delta in model.agenerate_stream("Hello", **said)]
        return await model.agenerate("Hello", **said), "".join(pieces)

    awaited, text = asyncio.run(ask())
    assert awaited.generations[0].text == text == generation.text


def test_a_chat_goes_through_the_template_of_the_model(llm: inferd.Server) -> None:
    output = llm.model("tiny").generate(CHAT, max_tokens=3, n=2, temperature=1.0, seed=1)
    assert [one.index for one in output.generations] == [0, 1]
    plain = llm.model("tiny").generate("Hello", max_tokens=1)
    assert len(output.prompt_token_ids) > len(plain.prompt_token_ids)


def test_a_generation_that_is_left_ends(llm: inferd.Server) -> None:
    model = llm.model("tiny")
    stream = model.generate_stream("Hello", max_tokens=200, ignore_eos=True)
    next(stream)
    stream.close()

    async def leave() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await model.agenerate("Hello", max_tokens=200, ignore_eos=True)

    asyncio.run(leave())
    assert llm._thread.call(lambda core: _drained(core)) == 0


async def _drained(core: Any) -> int:
    served = core.data.language_model("tiny")
    await served.drain()
    return int(served.in_flight())


@pytest.mark.parametrize(
    ("prompt", "options", "phrase"),
    [
        ("", {}, "prompt 0 is empty"),
        ([], {}, "prompt must not be empty"),
        ([["a"]], {}, "prompt must be one text, token ids, or the messages of a chat"),
        (["one", "two"], {}, "prompt must be one text, token ids, or the messages of a chat"),
        ("a", {"max_tokens": "many"}, "max_tokens"),
        ("a", {"temperature": -1}, "temperature must be 0 or more"),
        (CHAT, {"guided_json": {}}, "structured output"),
    ],
)
def test_a_wrong_prompt_is_said(llm: inferd.Server, prompt: Any, options: Any, phrase: str) -> None:
    with pytest.raises(InvalidRequest, match=phrase):
        llm.model("tiny").generate(prompt, **options)


def test_what_cannot_be_asked(llm: inferd.Server, server: inferd.Server) -> None:
    with pytest.raises(TypeError, match="unknown option 'max_token'"):
        llm.model("tiny").generate("a", max_token=3)
    with pytest.raises(InvalidRequest, match="not a language model; use infer"):
        server.model("add_sub").generate("a")
    with pytest.raises(ModelNotFound):
        llm.model("nope").generate("a")
    with pytest.raises(InvalidRequest, match="language model"):
        llm.model("tiny").infer({"text_input": ["a"]})
