"""JSON of the routes for texts as clients send it: OpenAI's embeddings, reranking in the words of
Jina, Cohere and vLLM or of Text Embeddings Inference, vLLM's classification.

Unknown fields are ignored, null counts as absent. Fields that are known and not acted on are here
too, so that they can be refused by name.
"""

from typing import Any

import msgspec


class TextsFields(msgspec.Struct, kw_only=True):
    """What all have in common; `truncate_prompt_tokens` is vLLM's."""

    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None


class EmbeddingRequest(TextsFields, kw_only=True):
    """Body of `POST /v1/embeddings`; `input` is a text or a list of texts."""

    input: Any = None
    encoding_format: str | None = None
    dimensions: int | None = None


class RerankRequest(TextsFields, kw_only=True):
    """Body of `POST /rerank`, `/v1/rerank` and `/v2/rerank`: `documents`, which are texts or
    objects with a `text`, or, in the form of Text Embeddings Inference, `texts`."""

    query: str
    documents: list[Any] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: int | None = None
    max_chunks_per_doc: int | None = None

    texts: list[str] | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None


class ClassifyRequest(TextsFields, kw_only=True):
    """Body of `POST /classify`; `input` is a text or a list of texts."""

    input: Any = None
    activation: bool | None = None
    use_activation: bool | None = None
