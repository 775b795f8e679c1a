"""The paths for texts. Errors have the OpenAI API's shape, as vLLM's have."""

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.protocols.http.openai.endpoint import (
    Endpoint,
    attended,
    json_response,
    read_fields,
    translating,
)
from inferd.protocols.http.openai.offload import offloaded
from inferd.protocols.http.texts.classify import classify
from inferd.protocols.http.texts.embeddings import embed, embedding_answer
from inferd.protocols.http.texts.rerank import rank, ranking_answer
from inferd.protocols.request_id import next_request_id
from inferd.schemas.texts import ClassifyRequest, EmbeddingRequest, RerankRequest
from inferd.serving.data_plane import DataPlane


class TextRoutes:
    """Embeddings, reranking, classification."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self._plane = plane
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """The routes of an ASGI application."""
        posts: dict[str, Endpoint] = {
            "/v1/embeddings": self.embeddings,
            "/rerank": self.rerank,
            "/v1/rerank": self.rerank,
            "/v2/rerank": self.rerank,
            "/classify": self.classify,
        }
        return [Route(path, translating(e), methods=["POST"]) for path, e in posts.items()]

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts."""
        fields, _ = await read_fields(request, EmbeddingRequest, self._max_body_bytes)
        model, found = await attended(request, embed(self._plane, fields))
        id, now = next_request_id().decode(), int(time.time())
        return await offloaded(
            found[model.output].nbytes,
            lambda: json_response(embedding_answer(fields, model, found, id, now)),
        )

    async def rerank(self, request: Request) -> Response:
        """Documents by how well they answer a query."""
        fields, _ = await read_fields(request, RerankRequest, self._max_body_bytes)
        ranking = await attended(request, rank(self._plane, fields))
        return json_response(ranking_answer(fields, ranking, next_request_id().decode()))

    async def classify(self, request: Request) -> Response:
        """Labels of texts."""
        fields, _ = await read_fields(request, ClassifyRequest, self._max_body_bytes)
        id, now = next_request_id().decode(), int(time.time())
        return json_response(await attended(request, classify(self._plane, fields, id, now)))
