"""The OpenAI API's part of the OpenAPI document; bodies are described by their own structs."""

from typing import Any

import msgspec

from inferd.schemas.openai import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)

_JSON = "application/json"
_REF = "#/components/schemas/"
_BODIES = (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)
_TEXT = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": _TEXT, "type": _TEXT, "param": _TEXT, "code": _TEXT},
        }
    },
}
_EXAMPLE = """curl -sN localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "NAME", "messages": [{"role": "user", "content": "Hello!"}], "stream": true
}'"""


def openai_schemas() -> dict[str, Any]:
    """The schemas that `openai_paths` refers to."""
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template=_REF + "{name}")
    return {**schemas, "OpenAIError": _ERROR}


def openai_paths() -> dict[str, Any]:
    """The operations, by path and method."""
    chat = post_operation("Chat", "Answer messages, whole or as a stream of events", "ChatRequest")
    completion = post_operation("Completions", "Continue or score prompts", "CompletionRequest")
    for operation in (chat, completion):
        operation["responses"]["200"]["content"]["text/event-stream"] = {}
    chat["x-example"] = _EXAMPLE
    one = _operation("Models", "One of those models", (404,))
    one["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    models = _operation("Models", "Every model of language or of texts that answers")
    tokenize = post_operation("Tokens", "The tokens of a prompt", "TokenizeRequest")
    detokenize = post_operation("Tokens", "The text of tokens", "DetokenizeRequest")
    health = _operation("Health", "Whether requests should be sent here")
    health["responses"] = {"200": {"description": "Yes"}, "503": {"description": "Not now"}}
    return {
        "/v1/chat/completions": {"post": chat},
        "/v1/completions": {"post": completion},
        "/v1/models": {"get": models},
        "/v1/models/{model}": {"get": one},
        "/tokenize": {"post": tokenize},
        "/detokenize": {"post": detokenize},
        "/health": {"get": health},
        "/version": {"get": _operation("Health", "The server's version")},
    }


def post_operation(tag: str, summary: str, body: str) -> dict[str, Any]:
    """An operation that takes a body, with the errors that it may answer."""
    operation = _operation(tag, summary, (400, 404, 413, 415, 429, 500, 503))
    operation["requestBody"] = {
        "required": True,
        "content": {_JSON: {"schema": {"$ref": f"{_REF}{body}"}}},
    }
    return operation


def _operation(tag: str, summary: str, errors: tuple[int, ...] = ()) -> dict[str, Any]:
    good = {"description": "OK", "content": {_JSON: {"schema": {"$ref": f"{_REF}Object"}}}}
    bad = {"description": "Error", "content": {_JSON: {"schema": {"$ref": f"{_REF}OpenAIError"}}}}
    return {
        "tags": [tag],
        "summary": summary,
        "responses": {"200": good} | {str(status): bad for status in errors},
    }
