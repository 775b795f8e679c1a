import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from inferd.protocols.http.app import create_app
from inferd.protocols.http.errors import REASONS
from inferd.protocols.http.openai.routes import GENERATION
from inferd.protocols.http.openapi import openapi_document
from inferd.schemas import oip

DOCUMENT = openapi_document()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    used = set(references(DOCUMENT))
    schemas = DOCUMENT["components"]["schemas"]
    assert used == {f"#/components/schemas/{name}" for name in schemas}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_document_is_json_and_names_its_version() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {"title", "version"} <= DOCUMENT["info"].keys()


def test_path_parameters_are_those_of_the_path() -> None:
    for path, _, operation in operations():
        parameters = operation.get("parameters", [])
        assert [p["name"] for p in parameters] == re.findall(r"{(\w+)}", path)
        assert all(p["in"] == "path" and p["required"] for p in parameters)


def test_every_operation_says_what_it_answers() -> None:
    for path, method, operation in operations():
        assert operation["summary"], path
        assert operation["tags"], path
        assert "200" in operation["responses"]
        assert all(int(status) in REASONS for status in operation["responses"])
        assert all("description" in answer for answer in operation["responses"].values())
        assert ("requestBody" in operation) <= (method == "post")


def test_every_route_that_is_served_is_described_and_no_other() -> None:
    app: Any = create_app(None, None, lambda: b"", 1)  # type: ignore[arg-type]
    unsupported = "/v2/repository/{repository}/", "/v2/cudasharedmemory/"
    not_api = {"/openapi.json", "/docs", "/", "/console/{file}"}
    served = {
        route.path
        for route in app.routes
        if route.path not in not_api and not route.path.startswith(unsupported)
    }
    infer = {
        f"/v2/models/{{model}}{version}/{verb}"
        for version in ("", "/versions/{version}")
        for verb in ("infer", "generate", "generate_stream")
    }
    generation = {path.decode() for path in GENERATION}
    assert set(DOCUMENT["paths"]) == served | infer | generation


@pytest.mark.parametrize(
    "name", ["InferRequest", "InferInput", "InferOutput", "RepositoryIndexRequest", "LoadRequest"]
)
def test_schemas_have_the_fields_that_are_read(name: str) -> None:
    kind = getattr(oip, name)
    schema = DOCUMENT["components"]["schemas"][name]
    fields = msgspec.structs.fields(kind)
    assert set(schema["properties"]) == {field.encode_name for field in fields}
    assert set(schema.get("required", [])) == {f.encode_name for f in fields if f.required}
