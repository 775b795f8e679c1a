"""The plain calls' part of the OpenAPI document: an operation for each model that is served, with
schemas of its own, and what describes them."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from inferd.protocols.call.codec import CallCodec, codec_of
from inferd.protocols.call.schema import Definitions, request_schema, response_schema
from inferd.serving.served_model import ServedModel
from inferd.types.signature import Signature

_JSON = "application/json"
_REF = "#/components/schemas/"
_LONG = 600
"""Characters from which on an example says no more."""
_ERRORS = (400, 403, 404, 413, 500, 501, 503)


def call_paths(models: Sequence[ServedModel] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operations by path and method, and the schemas that they refer to."""
    paths: dict[str, Any] = {"/models": {"get": _described("Every model, with its arguments", ())}}
    for suffix in ("", "/versions/{version}"):
        names = ("model", "version") if suffix else ("model",)
        get = _described("Arguments and results of one model, with JSON schemas", names)
        post = _operation("Call a model with named arguments", names)
        post["requestBody"] = _body({"type": "object"})
        post["responses"]["200"]["content"] = {_JSON: {}, "text/event-stream": {}}
        paths[f"/models/{{model}}{suffix}"] = {"get": get, "post": post}
    schemas: dict[str, Any] = {}
    for served in models:
        definitions = Definitions(_REF, f"{served.name}.")
        path = f"/models/{quote(served.name)}"
        paths[path] = {"post": _call(served.name, codec_of(served), definitions)}
        if served.explain_signature is not None:
            codec = codec_of(served, "explain")
            explaining = Definitions(_REF, f"{served.name}.explain.")
            explained = _call(f"{served.name}/explain", codec, explaining)
            paths[f"{path}/explain"] = {"post": explained}
            schemas |= explaining.found
        schemas |= definitions.found
    return paths, schemas


def _call(name: str, codec: CallCodec, definitions: Definitions) -> dict[str, Any]:
    signature = codec.signature
    operation = _operation(signature.description or f"Call {name}", ())
    schema = request_schema(codec, definitions)
    operation["requestBody"] = _body(schema)
    if any(argument.form in ("image", "bytes") for argument in signature.inputs):
        operation["requestBody"]["content"]["multipart/form-data"] = {"schema": _form(signature)}
    answer = response_schema(codec, definitions)
    content = {_JSON: {"schema": answer}}
    if signature.streams:
        content = {_JSON: {"schema": {"type": "array", "items": answer}}, "text/event-stream": {}}
    operation["responses"]["200"]["content"] = content
    operation["x-example"] = _example(name, signature)
    return operation


def _form(signature: Signature) -> dict[str, Any]:
    files = {"type": "string", "format": "binary"}
    properties = {
        a.name: files if a.form in ("image", "bytes") else {"type": "string"}
        for a in signature.inputs
    }
    return {"type": "object", "properties": properties}


def _example(name: str, signature: Signature) -> str:
    values = {a.name: example_value(a.schema) for a in signature.inputs if a.default is None}
    text = json.dumps(values, ensure_ascii=False)
    if len(text) > _LONG:
        text = json.dumps(dict.fromkeys(values, "..."))
    return f"curl -s localhost:8000/models/{quote(name)} -H 'Content-Type: {_JSON}' -d '{text}'"


def example_value(schema: dict[str, Any]) -> Any:
    """A value that a simple schema allows."""
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "array":
        size = min(int(schema.get("minItems", 1)), 16)
        return [example_value(schema.get("items", {}))] * size
    return {"number": 0.5, "integer": 1, "boolean": True, "string": "text", "null": None}.get(
        str(kind), {}
    )


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _described(summary: str, names: Sequence[str]) -> dict[str, Any]:
    operation = _operation(summary, names, (404, 503) if names else ())
    operation["responses"]["200"]["content"] = {_JSON: {"schema": {"$ref": f"{_REF}Object"}}}
    return operation


def _operation(
    summary: str, names: Sequence[str], errors: Sequence[int] = _ERRORS
) -> dict[str, Any]:
    bad = {"description": "Error", "content": {_JSON: {"schema": {"$ref": f"{_REF}Error"}}}}
    operation: dict[str, Any] = {
        "tags": ["Models"],
        "summary": summary,
        "responses": {"200": {"description": "OK"}} | {str(status): bad for status in errors},
    }
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return operation
