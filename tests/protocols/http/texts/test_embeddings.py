import base64
from typing import Any

import numpy as np
import openai
import pytest

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from protocols.http.texts.served import Texts, with_texts

PATH = "/v1/embeddings"
TEXTS = ["the cat sat on a mat", "who", "anna lives in paris"]


def wanted(texts: list[str]) -> Any:
    return ask(opened(tiny.saved("BertModel")), text=texts)["embedding"]


@with_texts("embedder")
async def test_vectors_of_texts_and_how_many_tokens_they_took(texts: Texts) -> None:
    said = await texts.post(PATH, model="embedder", input=TEXTS)
    assert (said["object"], said["model"]) == ("list", "embedder")
    assert [(d["object"], d["index"]) for d in said["data"]] == [
        ("embedding", index) for index in range(3)
    ]
    found = np.array([d["embedding"] for d in said["data"]], np.float32)
    np.testing.assert_allclose(found, wanted(TEXTS), rtol=1e-5, atol=1e-6)
    assert said["usage"] == {"prompt_tokens": 8 + 3 + 6, "total_tokens": 17}


@with_texts("embedder", "classifier")
async def test_one_text_and_no_model_is_enough(texts: Texts) -> None:
    said = await texts.post(PATH, input="the cat")
    (one,) = said["data"]
    np.testing.assert_allclose(one["embedding"], wanted(["the cat"])[0], rtol=1e-5, atol=1e-6)


@with_texts("embedder")
async def test_base64_is_little_endian_float32(texts: Texts) -> None:
    said = await texts.post(PATH, input=TEXTS, encoding_format="base64")
    found = [np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in said["data"]]
    np.testing.assert_allclose(found, wanted(TEXTS), rtol=1e-5, atol=1e-6)


@with_texts("embedder")
async def test_the_stock_client(texts: Texts) -> None:
    async with openai.AsyncOpenAI(base_url=f"{texts.url}/v1", api_key="x", max_retries=0) as client:
        said = await client.embeddings.create(model="embedder", input=TEXTS)
        found = np.array([d.embedding for d in said.data])
        np.testing.assert_allclose(found, wanted(TEXTS), rtol=1e-5, atol=1e-6)
        assert said.usage.prompt_tokens == 17
        plain = await client.embeddings.create(
            model="embedder", input="who", encoding_format="float"
        )
        np.testing.assert_allclose(plain.data[0].embedding, found[1], rtol=1e-5, atol=1e-6)
        with pytest.raises(openai.BadRequestError, match="dimensions is 8") as caught:
            await client.embeddings.create(model="embedder", input="who", dimensions=8)
        assert caught.value.param == "dimensions"
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nobody", input="who")
        assert [model.id async for model in client.models.list()] == ["embedder"]
        assert (await client.models.retrieve("embedder")).owned_by == "inferd"


@with_texts("embedder")
async def test_more_texts_than_a_batch_has_rows_come_back_in_order(texts: Texts) -> None:
    many = [f"{'cat ' * (i % 7)}{chr(97 + i % 26)}" for i in range(100)]
    said = await texts.post(PATH, input=many)
    found = [d["embedding"] for d in said["data"]]
    np.testing.assert_allclose(found, wanted(many), rtol=1e-4, atol=1e-5)
    assert texts.served("embedder").statistics.success.count == 4


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "input is required"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": ""}, "input", "input is an empty text"),
        ({"input": ["a", ""]}, "input", r"input[1] is an empty text"),
        ({"input": ["a", 3]}, "input", r"input[1] must be a text"),
        ({"input": [1, 2]}, "input", "token ids"),
        ({"input": [[1, 2]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": {"text": "a"}}, "input", "a text or a list of texts"),
        ({"input": ["a"] * 2049}, "input", "2049 texts; send at most 2048"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "float or base64"),
        ({"input": "a", "dimensions": 0}, "dimensions", "it gives 32"),
        ({"input": "a", "dimensions": "x"}, "dimensions", "dimensions: expected"),
        ({"input": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "must be -1"),
    ],
)
@with_texts("embedder")
async def test_what_is_wrong_is_named(
    texts: Texts, body: dict[str, Any], param: str, message: str
) -> None:
    error = await texts.error(PATH, **body)
    assert error["param"] == param
    assert message in error["message"]


@with_texts("embedder")
async def test_all_of_a_vector_may_be_asked_for(texts: Texts) -> None:
    said = await texts.post(PATH, input="a", dimensions=32, truncate_prompt_tokens=-1)
    assert len(said["data"][0]["embedding"]) == 32


@with_texts()
async def test_vectors_that_may_be_cut_are_cut_and_have_length_1(
    texts: Texts, tmp_path: Any
) -> None:
    folder = tiny.copy_of(tiny.saved("BertModel"), tmp_path / "m")
    tiny.edit(folder / "config.json", matryoshka_dimensions=[8, 16])
    async with Texts(cut=folder) as served:
        said = await served.post(PATH, input="the cat", dimensions=8)
        short = wanted(["the cat"])[0, :8]
        np.testing.assert_allclose(
            said["data"][0]["embedding"], short / np.linalg.norm(short), rtol=1e-4, atol=1e-5
        )
        error = await served.error(PATH, input="the cat", dimensions=9)
        assert "it gives 32, and can be cut to 8, 16, 32" in error["message"]
