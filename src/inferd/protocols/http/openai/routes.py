"""The paths of the OpenAI API: generation takes the direct way, as inference does; models, tokens
and health are ordinary ASGI routes. Source of the paths without /v1: vLLM.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import InferdError, InvalidRequest, ModelNotFound
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.openai.body import decode_body
from inferd.protocols.http.openai.errors import (
    openai_error_body,
    openai_error_headers,
    status_of,
)
from inferd.protocols.http.openai.exchange import GenerationExchange
from inferd.protocols.http.openai.offload import offloaded
from inferd.protocols.http.openai.prompts import chat_prompt, runs_code
from inferd.protocols.http.openai.refusal import refuse_messages
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.schemas.openai import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerationFields,
    TokenizeRequest,
)
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_llm import ServedLLM

T = TypeVar("T", bound=msgspec.Struct)
Endpoint = Callable[[Request], Awaitable[Response]]

GENERATION: dict[bytes, type[GenerationFields]] = {
    b"/v1/chat/completions": ChatRequest,
    b"/v1/completions": CompletionRequest,
}

PREFIXES = ("/v1/", "/tokenize", "/detokenize")
"""Paths whose errors have the OpenAI API's shape."""


class GenerationRoute:
    """Answers requests for text."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self._plane = plane
        self._max_body_bytes = max_body_bytes

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer a request for text with such a head; None for any other request."""
        kind = GENERATION.get(head.target.partition(b"?")[0])
        if kind is None:
            return None
        if head.method != b"POST":
            return _not_post
        plane, limit = self._plane, self._max_body_bytes

        def start(connection: HttpConnection, request: HttpRequest) -> GenerationExchange:
            return GenerationExchange(plane, limit, kind, connection, request)

        return start


def _not_post(connection: HttpConnection, request: HttpRequest) -> None:
    body = openai_error_body(InvalidRequest("this path needs POST"))
    connection.respond(405, body, headers=[(b"allow", b"POST")])


class OpenAIRoutes:
    """Every other endpoint."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self._plane = plane
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """The routes of an ASGI application."""
        gets: dict[str, Endpoint] = {
            "/v1/models": self.models,
            "/v1/models/{model}": self.model,
            "/health": self.health,
            "/version": self.version,
        }
        posts: dict[str, Endpoint] = {
            "/tokenize": self.tokenize,
            "/detokenize": self.detokenize,
        }
        return [
            *[Route(path, _translating(e), methods=["GET"]) for path, e in gets.items()],
            *[Route(path, _translating(e), methods=["POST"]) for path, e in posts.items()],
        ]

    async def models(self, request: Request) -> Response:
        """Every language model that answers."""
        return _json({"object": "list", "data": [_card(m) for m in self._plane.generators()]})

    async def model(self, request: Request) -> Response:
        """One language model."""
        name = request.path_params["model"]
        for llm in self._plane.generators():
            if llm.name == name:
                return _json(_card(llm))
        raise ModelNotFound(f"The model '{name}' does not exist or is not a language model")

    async def health(self, request: Request) -> Response:
        """200 when requests should be sent here, else 503."""
        return Response(b"", 200 if self._plane.ready() else 503)

    async def version(self, request: Request) -> Response:
        """The server's version."""
        return _json({"version": self._plane.server_metadata()[1]})

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a prompt or of messages."""
        fields, size = await self._fields(request, TokenizeRequest)
        llm = self._plane.generator(fields.model)
        tokens = await offloaded(size, lambda: _tokens(llm, fields), runs_code(fields))
        strings = [llm.tokenizer.token(i) for i in tokens] if fields.return_token_strs else None
        return _json(
            {
                "count": len(tokens),
                "max_model_len": llm.max_len,
                "tokens": tokens,
                "token_strs": strings,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens."""
        fields, size = await self._fields(request, DetokenizeRequest)
        llm = self._plane.generator(fields.model)
        tokens = llm.checked_ids(fields.tokens)
        decode = llm.tokenizer.decode
        text = await offloaded(size, lambda: decode(tokens, skip_special_tokens=False))
        return _json({"prompt": text})

    async def _fields(self, request: Request, kind: type[T]) -> tuple[T, int]:
        """The body, decoded, and its size."""
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        body, most = await request.body(), self._max_body_bytes
        return await offloaded(len(body), lambda: decode_body(body, headers, kind, most)), len(body)


def _tokens(llm: ServedLLM, fields: TokenizeRequest) -> list[int]:
    if (fields.prompt is None) == (fields.messages is None):
        raise InvalidRequest("prompt or messages is required, and not both")
    special = fields.add_special_tokens
    if fields.prompt is not None:
        return llm.tokenizer.encode(fields.prompt, add_special_tokens=special is not False)
    refuse_messages(fields)
    return llm.tokenizer.encode(chat_prompt(llm, fields), add_special_tokens=bool(special))


def _card(llm: ServedLLM) -> dict[str, Any]:
    return {
        "id": llm.name,
        "object": "model",
        "created": llm.created_s,
        "owned_by": "inferd",
        "root": llm.name,
        "parent": None,
        "max_model_len": llm.max_len,
        "permission": [],
    }


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), 200, media_type="application/json")


def _translating(endpoint: Endpoint) -> Endpoint:
    async def translated(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InferdError as error:
            headers = {n.decode(): v.decode() for n, v in openai_error_headers(error)}
            return Response(
                openai_error_body(error), status_of(error), headers, media_type="application/json"
            )

    translated.__doc__ = endpoint.__doc__
    return translated
