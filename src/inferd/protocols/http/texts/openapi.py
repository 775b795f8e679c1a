"""The part of the OpenAPI document that is about texts; bodies are described by their structs."""

from typing import Any

import msgspec

from inferd.protocols.http.openai.openapi import post_operation
from inferd.schemas.texts import ClassifyRequest, EmbeddingRequest, RerankRequest

_BODIES = (EmbeddingRequest, RerankRequest, ClassifyRequest)

_EMBED = """curl -s localhost:8000/v1/embeddings -H 'Content-Type: application/json' -d '{
  "model": "NAME", "input": ["a text", "another"]
}'"""
_RERANK = """curl -s localhost:8000/rerank -H 'Content-Type: application/json' -d '{
  "model": "NAME", "query": "Where is the cat?", "documents": ["On the mat.", "It rains."]
}'"""


def texts_schemas() -> dict[str, Any]:
    """The schemas that `texts_paths` refers to."""
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    return schemas


def texts_paths() -> dict[str, Any]:
    """The operations, by path and method."""
    embed = post_operation("Texts", "Vectors of texts", "EmbeddingRequest")
    embed["x-example"] = _EMBED
    paths: dict[str, Any] = {"/v1/embeddings": {"post": embed}}
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        rerank = post_operation("Texts", "Documents by how well they answer a query",
                                "RerankRequest")  # fmt: skip
        rerank["description"] = (
            "In the words of Jina and Cohere (`documents`) or of Text Embeddings Inference "
            "(`texts`). By a model of pairs, or by the cosine of embeddings."
        )
        rerank["x-example"] = _RERANK
        paths[path] = {"post": rerank}
    classify = post_operation("Texts", "Labels of texts", "ClassifyRequest")
    return paths | {"/classify": {"post": classify}}
