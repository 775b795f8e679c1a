"""What all routes for texts have in common: which model, one error for all, an end when the client
leaves; with models of any kind behind them."""

import asyncio
from typing import Any

import numpy as np
import pytest

from fakes import FakeInstance, turns
from inferd.backends.base import ModelDescription
from inferd.errors import BackendError
from inferd.types.datatype import BYTES, FP32, FP64
from inferd.types.tensor import Array, TensorSpec
from protocols.http.texts.served import Texts, with_texts

EMBED, RERANK, CLASSIFY = "/v1/embeddings", "/rerank", "/classify"
BODIES: dict[str, dict[str, Any]] = {
    EMBED: {"input": "a"}, RERANK: {"query": "a", "documents": ["b"]}, CLASSIFY: {"input": "a"},
}  # fmt: skip


def lengths(inputs: list[Array]) -> list[Array]:
    """A vector for each text: its length, and the length of the batch."""
    texts = inputs[0].reshape(-1)
    return [np.array([[len(text), len(texts)] for text in texts], np.float32)]


def described(
    most: int = 4, labels: tuple[str, ...] = (), name: str = "vector"
) -> ModelDescription:
    """A model of one text; its tensors are [N, 1] and [N, 2]."""
    lead = (-1,) if most else ()
    return ModelDescription(
        "p", "b", most, (TensorSpec("words", BYTES, (*lead, 1)),),
        (TensorSpec(name, FP32, (*lead, 2), labels=labels),),
    )  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
@with_texts()
async def test_without_a_model_there_is_an_error(texts: Texts, path: str) -> None:
    assert "no model that is ready does" in (await texts.error(path, **BODIES[path]))["message"]
    error = await texts.error(path, 404, model="nobody", **BODIES[path])
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@with_texts("embedder", "reranker", "classifier")
async def test_a_model_that_does_something_else_is_told(texts: Texts) -> None:
    error = await texts.error(EMBED, model="classifier", input="a")
    assert "model 'classifier' does no embeddings" in error["message"]
    error = await texts.error(RERANK, model="classifier", query="a", documents=["b"])
    assert "does no reranking and no embeddings" in error["message"]
    error = await texts.error(CLASSIFY, model="embedder", input="a")
    assert "does no classification" in error["message"]


@with_texts("embedder")
async def test_of_several_models_one_must_be_named(texts: Texts) -> None:
    texts.add_fake("other", described(), FakeInstance(lengths))
    error = await texts.error(EMBED, input="a")
    assert "model is required; for embeddings there are: embedder, other" in error["message"]
    assert (await texts.post(EMBED, model="other", input="abc"))["data"][0]["embedding"][0] == 3


@with_texts("embedder", "classifier", "reranker")
async def test_models_of_texts_are_listed(texts: Texts) -> None:
    description = ModelDescription(
        "p", "b", 4, (TensorSpec("x", FP32, (-1, 2)),), (TensorSpec("y", FP32, (-1, 2)),)
    )
    texts.add_fake("numbers", description, FakeInstance())
    said = (await texts.client.get("/v1/models")).json()
    assert [card["id"] for card in said["data"]] == ["classifier", "embedder", "reranker"]
    assert said["data"][0]["created"] > 1_700_000_000
    assert (await texts.client.get("/v1/models/embedder")).json() == said["data"][1]
    assert (await texts.client.get("/v1/models/numbers")).status_code == 404


# -- models of any kind --------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 4])
@with_texts()
async def test_any_model_of_one_text_and_one_vector_embeds(texts: Texts, most: int) -> None:
    instance = FakeInstance(lengths if most else lambda inputs: [lengths(inputs)[0][0]])
    texts.add_fake("mine", described(most), instance)
    said = await texts.post(EMBED, input=["a" * n for n in range(1, 10)])
    assert [d["embedding"][0] for d in said["data"]] == list(range(1, 10))
    assert max(d["embedding"][1] for d in said["data"]) <= max(1, most)
    assert said["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    ranked = await texts.post(RERANK, query="aaa", documents=["a", "aaa"])
    assert len(ranked["results"]) == 2


@with_texts()
async def test_any_model_with_labels_classifies_and_embeds_not(texts: Texts) -> None:
    texts.add_fake("mine", described(labels=("long", "many")), FakeInstance(lengths))
    said = await texts.post(CLASSIFY, input=["aaaa", "b", "c"])
    assert [d["label"] for d in said["data"]] == ["long", "many", "many"]
    assert said["data"][0]["probs"] == [4, 3]
    assert "does no embeddings" in (await texts.error(EMBED, model="mine", input="a"))["message"]


@with_texts()
async def test_any_model_of_two_texts_and_one_number_ranks(texts: Texts) -> None:
    def overlap(inputs: list[Array]) -> list[Array]:
        pairs = zip(*inputs, strict=True)
        return [np.array([len(set(a.split()) & set(b.split())) for a, b in pairs], np.float64)]

    pair = (TensorSpec("query", BYTES, (-1,)), TensorSpec("document", BYTES, (-1,)))
    description = ModelDescription("p", "b", 4, pair, (TensorSpec("overlap", FP64, (-1,)),))
    texts.add_fake("mine", description, FakeInstance(overlap))
    body = {"query": "a b c", "documents": ["x", "a b", "c", "c b a"]}
    said = await texts.post(RERANK, **body)
    assert [r["index"] for r in said["results"]] == [3, 1, 2, 0]
    error = await texts.error(RERANK, raw_scores=True, **body)
    assert error["param"] == "raw_scores"


# -- all or nothing --------------------------------------------------------------------------------


@with_texts()
async def test_one_text_that_fails_is_the_answer_of_all(texts: Texts) -> None:
    def picky(inputs: list[Array]) -> list[Array]:
        if b"bad" in inputs[0]:
            raise BackendError("cannot read 'bad'")
        return lengths(inputs)

    texts.add_fake("mine", described(), FakeInstance(picky))
    error = await texts.error(EMBED, 500, input=["a"] * 20 + ["bad"] + ["b"] * 20)
    assert error["message"].endswith("cannot read 'bad'")
    assert texts.served("mine").in_flight() == 0
    assert len((await texts.post(EMBED, input=["a"] * 20))["data"]) == 20


@with_texts()
async def test_a_client_that_leaves_takes_its_texts_with_it(texts: Texts) -> None:
    instance = FakeInstance(lengths)
    texts.add_fake("mine", described(), instance)
    instance.gate.clear()
    served = texts.served("mine")
    asking = asyncio.create_task(texts.client.post(EMBED, json={"input": ["a"] * 40}))
    while served.in_flight() < 10:
        await turns()
    asking.cancel()
    while served.queue_depth():
        await turns()
    instance.gate.set()
    await served.drain()
    assert len(instance.threads) == 1  # the batch that ran already, and none behind it


@with_texts("embedder")
async def test_other_peoples_texts_run_in_the_same_batches(texts: Texts) -> None:
    instance = FakeInstance(lengths)
    texts.add_fake("mine", described(most=32), instance)
    instance.gate.clear()
    served = texts.served("mine")
    asking = [
        asyncio.create_task(texts.post(EMBED, model="mine", input=["a", "b"])) for _ in range(5)
    ]
    while served.in_flight() < 5:
        await turns()
    instance.gate.set()
    answers = await asyncio.gather(*asking)
    sizes = {d["embedding"][1] for answer in answers for d in answer["data"]}
    assert max(sizes) > 2


@with_texts()
async def test_a_server_that_shuts_down_takes_no_texts(texts: Texts) -> None:
    texts.plane.draining = True
    assert "shutting down" in (await texts.error(EMBED, 503, input="a"))["message"]


@pytest.mark.parametrize("path", BODIES)
@with_texts("embedder")
async def test_bodies_and_methods_that_are_wrong(texts: Texts, path: str) -> None:
    answer = await texts.client.post(path, content=b"{")
    assert (answer.status_code, set(answer.json()["error"])) == (
        400, {"message", "type", "param", "code"}
    )  # fmt: skip
    answer = await texts.client.get(path)
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"
