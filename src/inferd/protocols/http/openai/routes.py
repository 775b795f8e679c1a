"""The paths of the OpenAI API: generation takes the direct way, as inference does; models, tokens
and health are ordinary ASGI routes. Source of the paths without /v1: vLLM.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import InvalidRequest, ModelNotFound
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.openai.endpoint import (
    Endpoint,
    json_response,
    read_fields,
    translating,
)
from inferd.protocols.http.openai.errors import openai_error_body
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

GENERATION: dict[bytes, type[GenerationFields]] = {
    b"/v1/chat/completions": ChatRequest,
    b"/v1/completions": CompletionRequest,
}

PREFIXES = ("/v1/", "/v2/rerank", "/rerank", "/classify", "/tokenize", "/detokenize")
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
            *[Route(path, translating(e), methods=["GET"]) for path, e in gets.items()],
            *[Route(path, translating(e), methods=["POST"]) for path, e in posts.items()],
        ]

    async def models(self, request: Request) -> Response:
        """Every language model, and every model of texts, that answers."""
        return json_response({"object": "list", "data": self._cards()})

    async def model(self, request: Request) -> Response:
        """One of those models."""
        name = request.path_params["model"]
        for card in self._cards():
            if card["id"] == name:
                return json_response(card)
        raise ModelNotFound(f"The model '{name}' does not exist or is no model of texts")

    def _cards(self) -> list[dict[str, Any]]:
        cards = [_card(llm.name, llm.created_s, llm.max_len) for llm in self._plane.generators()]
        cards += [_card(model.name, model.created_s, None) for model in self._plane.text_models()]
        return sorted(cards, key=lambda card: str(card["id"]))

    async def health(self, request: Request) -> Response:
        """200 when requests should be sent here, else 503."""
        return Response(b"", 200 if self._plane.ready() else 503)

    async def version(self, request: Request) -> Response:
        """The server's version."""
        return json_response({"version": self._plane.server_metadata()[1]})

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a prompt or of messages."""
        fields, size = await read_fields(request, TokenizeRequest, self._max_body_bytes)
        llm = self._plane.generator(fields.model)
        tokens = await offloaded(size, lambda: _tokens(llm, fields), runs_code(fields))
        strings = [llm.tokenizer.token(i) for i in tokens] if fields.return_token_strs else None
        return json_response(
            {
                "count": len(tokens),
                "max_model_len": llm.max_len,
                "tokens": tokens,
                "token_strs": strings,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens."""
        fields, size = await read_fields(request, DetokenizeRequest, self._max_body_bytes)
        llm = self._plane.generator(fields.model)
        tokens = llm.checked_ids(fields.tokens)
        decode = llm.tokenizer.decode
        text = await offloaded(size, lambda: decode(tokens, skip_special_tokens=False))
        return json_response({"prompt": text})


def _tokens(llm: ServedLLM, fields: TokenizeRequest) -> list[int]:
    if (fields.prompt is None) == (fields.messages is None):
        raise InvalidRequest("prompt or messages is required, and not both")
    special = fields.add_special_tokens
    if fields.prompt is not None:
        return llm.tokenizer.encode(fields.prompt, add_special_tokens=special is not False)
    refuse_messages(fields)
    return llm.tokenizer.encode(chat_prompt(llm, fields), add_special_tokens=bool(special))


def _card(name: str, created_s: int, max_len: int | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created_s,
        "owned_by": "inferd",
        "root": name,
        "parent": None,
        "max_model_len": max_len,
        "permission": [],
    }
