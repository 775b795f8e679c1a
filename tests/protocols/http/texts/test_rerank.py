from typing import Any

import numpy as np
import pytest

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from protocols.http.texts.served import CLASSIFIER, Texts, with_texts

QUERY = "where is the cat"
DOCUMENTS = ["the cat sat on a mat", "anna lives in paris", "a", "who is anna?"]
PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"]


def wanted(output: str = "score") -> Any:
    model = opened(tiny.saved(CLASSIFIER, names="LABEL_0"))
    return ask(model, text=[QUERY] * 4, text_pair=DOCUMENTS)[output]


def order(scores: Any) -> list[int]:
    return [int(index) for index in np.argsort(-np.asarray(scores))]


@pytest.mark.parametrize("path", PATHS)
@with_texts("reranker", "embedder", "classifier")
async def test_documents_come_the_best_first(texts: Texts, path: str) -> None:
    said = await texts.post(path, query=QUERY, documents=DOCUMENTS)
    assert said["model"] == "reranker"
    assert [r["index"] for r in said["results"]] == order(wanted())
    for result in said["results"]:
        assert set(result) == {"index", "relevance_score"}
        assert result["relevance_score"] == pytest.approx(wanted()[result["index"]], abs=1e-5)
    assert said["usage"]["total_tokens"] == wanted("tokens").sum()


@with_texts("reranker")
async def test_the_first_of_them_with_their_texts(texts: Texts) -> None:
    documents = [{"text": DOCUMENTS[0]}, *DOCUMENTS[1:]]
    said = await texts.post(
        "/rerank", model="reranker", query=QUERY, documents=documents, top_n=2,
        return_documents=True,
    )  # fmt: skip
    best = order(wanted())[:2]
    assert [(r["index"], r["document"]) for r in said["results"]] == [
        (index, {"text": DOCUMENTS[index]}) for index in best
    ]
    every = await texts.post("/rerank", query=QUERY, documents=documents, top_n=100)
    assert len(every["results"]) == 4


@pytest.mark.parametrize("raw", [False, True])
@with_texts("reranker")
async def test_the_words_of_text_embeddings_inference(texts: Texts, raw: bool) -> None:
    said = await texts.post("/rerank", query=QUERY, texts=DOCUMENTS, raw_scores=raw)
    logits = wanted("logit")
    assert [r["index"] for r in said] == order(logits)
    for result in said:
        assert set(result) == {"index", "score"}
        logit = float(logits[result["index"]])
        expected = logit if raw else 1 / (1 + np.exp(-logit))
        assert result["score"] == pytest.approx(expected, abs=1e-4)
    with_text = await texts.post("/rerank", query=QUERY, texts=DOCUMENTS, return_text=True)
    assert [r["text"] for r in with_text] == [DOCUMENTS[r["index"]] for r in with_text]


@with_texts("embedder")
async def test_embeddings_rank_by_their_cosine(texts: Texts) -> None:
    said = await texts.post("/rerank", query=QUERY, documents=DOCUMENTS)
    query, *vectors = ask(opened(tiny.saved("BertModel")), text=[QUERY, *DOCUMENTS])["embedding"]
    cosines = [float(v @ query / np.linalg.norm(v) / np.linalg.norm(query)) for v in vectors]
    assert [r["index"] for r in said["results"]] == order(cosines)
    for result in said["results"]:
        assert result["relevance_score"] == pytest.approx(cosines[result["index"]], abs=1e-4)


@pytest.mark.parametrize("model", ["reranker", "embedder"])
@with_texts("reranker", "embedder")
async def test_what_must_not_be_cut_is_refused(texts: Texts, model: str) -> None:
    long = "the cat " * 60
    body = {"model": model, "query": "who", "texts": ["cat", long]}
    error = await texts.error("/rerank", truncate=False, **body)
    assert error["param"] == "texts"
    assert "texts[1] is longer than the model reads" in error["message"]
    assert len(await texts.post("/rerank", truncate=True, **body)) == 2
    assert len(await texts.post("/rerank", **body)) == 2
    short = {"model": model, "query": "who", "texts": ["cat"], "truncate": False}
    assert len(await texts.post("/rerank", **short)) == 1


@with_texts("embedder")
async def test_a_query_that_must_not_be_cut_is_refused(texts: Texts) -> None:
    error = await texts.error("/rerank", query="cat " * 99, texts=["cat"], truncate=False)
    assert error["param"] == "query"


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"documents": ["a"]}, "query", "query is required"),
        ({"query": "", "documents": ["a"]}, "query", "query is an empty text"),
        ({"query": "a"}, "documents", "documents (or texts) is required"),
        ({"query": "a", "documents": ["a"], "texts": ["a"]}, "documents", "not both"),
        ({"query": "a", "documents": []}, "documents", "documents must not be empty"),
        ({"query": "a", "texts": []}, "texts", "texts must not be empty"),
        ({"query": "a", "documents": ["a", ""]}, "documents", "documents[1] is an empty text"),
        ({"query": "a", "documents": [{"text": 3}]}, "documents", "documents[0].text must be"),
        ({"query": "a", "documents": [{}]}, "documents", "documents[0].text must be a text"),
        ({"query": "a", "documents": ["a"] * 2049}, "documents", "at most 2048"),
        ({"query": "a", "documents": ["a"], "top_n": -1}, "top_n", "0 or more"),
        ({"query": "a", "documents": ["a"], "rank_fields": ["title"]}, "rank_fields", "['text']"),
        ({"query": "a", "texts": ["a"], "truncation_direction": "Left"}, "truncation_direction",
         "Right"),
        ({"query": "a", "documents": ["a"], "max_tokens_per_doc": 5}, "max_tokens_per_doc",
         "not supported"),
        ({"query": "a", "documents": ["a"], "truncate_prompt_tokens": 5},
         "truncate_prompt_tokens", "must be -1"),
        ({"query": "a", "documents": "a"}, "documents", "documents: expected"),
    ],
)  # fmt: skip
@with_texts("reranker")
async def test_what_is_wrong_is_named(
    texts: Texts, body: dict[str, Any], param: str, message: str
) -> None:
    error = await texts.error("/rerank", **body)
    assert error["param"] == param
    assert message in error["message"]
