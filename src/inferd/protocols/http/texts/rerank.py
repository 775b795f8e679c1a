"""Reranking: how well each of many documents answers a query, by a model of pairs, or, where there
is none, by the cosine of embeddings.

The words are those of Jina, Cohere and vLLM, or, for a request that has `texts`, of Text Embeddings
Inference.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inferd.protocols.http.openai.errors import FieldError
from inferd.protocols.http.texts.rows import (
    TRUNCATED,
    ask,
    check_count,
    check_text,
    check_truncation,
    usage,
)
from inferd.schemas.texts import RerankRequest
from inferd.serving.data_plane import DataPlane
from inferd.serving.text_model import TextModel
from inferd.types.tensor import Array

LOGIT = "logit"
"""An output that is a score before any sigmoid."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of documents: `order` are their indices, the best first."""

    model: TextModel
    documents: list[str]
    scores: list[float]
    order: list[int]
    usage: dict[str, int]


async def rank(plane: DataPlane, fields: RerankRequest) -> Ranking:
    """Score the documents; raises FieldError for what cannot be done."""
    documents = _documents(fields)
    _check(fields)
    model = plane.text_model(fields.model, "reranking", "embeddings")
    if model.task == "reranking":
        found = await _by_pairs(plane, model, fields, documents)
        scores = _scores(model, fields, found)
    else:
        found = await ask(plane, model, [fields.query, *documents])
        scores = cosines(found[model.output])
    _check_truncated(fields, documents, found)
    order = np.argsort(-scores, kind="stable").tolist()
    return Ranking(model, documents, scores.tolist(), order, usage(found))


def ranking_answer(fields: RerankRequest, ranking: Ranking, id: str) -> Any:
    """The body of the answer, in the words of the request."""
    if fields.texts is not None:
        return [
            {"index": index, "score": ranking.scores[index]}
            | ({"text": ranking.documents[index]} if fields.return_text else {})
            for index in ranking.order
        ]
    results = [
        {"index": index, "relevance_score": ranking.scores[index]}
        | ({"document": {"text": ranking.documents[index]}} if fields.return_documents else {})
        for index in ranking.order[: fields.top_n or None]
    ]
    return {
        "id": f"rerank-{id}", "model": ranking.model.served.name, "usage": ranking.usage,
        "results": results,
    }  # fmt: skip


def cosines(vectors: Array) -> Array:
    """Of the first of the vectors [N, D] with each other."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    products: Array = vectors[1:] @ vectors[0]
    found: Array = products / np.maximum(lengths[1:] * lengths[0], 1e-12)
    return found


async def _by_pairs(
    plane: DataPlane, model: TextModel, fields: RerankRequest, documents: list[str]
) -> dict[str, Array]:
    wanted = fields.texts is not None or fields.raw_scores
    logit = [LOGIT] if wanted and model.has(LOGIT) else []
    return await ask(plane, model, [fields.query] * len(documents), documents, logit)


def _scores(model: TextModel, fields: RerankRequest, found: dict[str, Array]) -> Array:
    """Text Embeddings Inference gives a sigmoid of the model's number, or that number; the others
    what the model's makers take for its score."""
    if LOGIT not in found:
        if fields.raw_scores:
            raise FieldError(
                f"raw_scores: model '{model.served.name}' has no output '{LOGIT}'; leave it out",
                "raw_scores",
            )
        return found[model.output].reshape(-1).astype(np.float64)
    logits = found[LOGIT].reshape(-1).astype(np.float64)
    scores: Array = logits if fields.raw_scores else np.exp(-np.logaddexp(0, -logits))
    return scores


def _documents(fields: RerankRequest) -> list[str]:
    if (fields.documents is None) == (fields.texts is None):
        raise FieldError("documents (or texts) is required, and not both", "documents")
    field = "documents" if fields.texts is None else "texts"
    given = fields.documents if fields.texts is None else fields.texts
    if not given:
        raise FieldError(f"{field} must not be empty", field)
    check_count(given, field)
    found: list[str] = []
    for number, document in enumerate(given):
        place = f"{field}[{number}]"
        if isinstance(document, dict):
            document, place = document.get("text"), f"{place}.text"
        check_text(document, place, field)
        found.append(document)
    return found


def _check(fields: RerankRequest) -> None:
    check_text(fields.query, "query", "query")
    check_truncation(fields)
    if fields.top_n is not None and fields.top_n < 0:
        raise FieldError(f"top_n must be 0 or more, and 0 or left out is all, got {fields.top_n}",
                         "top_n")  # fmt: skip
    if fields.rank_fields not in (None, ["text"]):
        raise FieldError("rank_fields must be ['text'] or left out", "rank_fields")
    if (fields.truncation_direction or "right").lower() != "right":
        raise FieldError("truncation_direction must be Right", "truncation_direction")
    for name in ("max_tokens_per_doc", "max_chunks_per_doc"):
        if getattr(fields, name) is not None:
            raise FieldError(
                f"{name} is not supported: a document is read up to the model's length; leave it "
                "out",
                name,
            )


def _check_truncated(fields: RerankRequest, documents: list[str], found: dict[str, Array]) -> None:
    if fields.truncate is not False or TRUNCATED not in found or not found[TRUNCATED].any():
        return
    # With embeddings the query is the first that was read.
    number = int(found[TRUNCATED].argmax()) - (len(found[TRUNCATED]) - len(documents))
    field = "query" if number < 0 else "texts"
    place = field if number < 0 else f"texts[{number}]"
    raise FieldError(
        f"{place} is longer than the model reads; shorten it, or set truncate to true", field
    )
