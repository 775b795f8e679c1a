from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes import on_loop
from inferd.config.model import ModelConfig
from inferd.protocols.http.openapi import openapi_document
from inferd.types.signature import Argument, Signature
from models import identity
from protocols.http.oip.lanes import Lanes

POINT = {
    "$ref": "#/$defs/Point",
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
}
ASKED = Signature(
    inputs=(
        Argument(name="image", datatype="BYTES", form="image", schema={"type": "string"}),
        Argument(name="at", datatype="BYTES", form="json", schema=POINT, default="null"),
    ),
    outputs=(Argument(name="score", datatype="FP32", form="value", schema={"type": "number"}),),
    bare=True,
    description="Finds things.",
)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def described(tmp_path: Path, signature: Signature) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    @on_loop
    async def load() -> None:
        async with Lanes(identity(), tmp_path, ModelConfig(max_batch_size=4)) as lanes:
            lanes.served.signature = signature
            found.append(openapi_document([lanes.served]))

    load()
    return found[0]


def test_a_model_is_described_by_its_own_words(tmp_path: Path) -> None:
    document = described(tmp_path, ASKED)
    operation = document["paths"]["/models/m"]["post"]
    assert operation["summary"] == "Finds things."
    content = operation["requestBody"]["content"]
    one, many = content["application/json"]["schema"]["anyOf"]
    assert one["required"] == many["required"] == ["image"]
    assert one["properties"]["at"] == {
        "$ref": "#/components/schemas/m.at.Point", "default": None,
    }  # fmt: skip
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["image"] == {"type": "string", "format": "binary"}
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["anyOf"][0] == {"type": ["number", "null"]}


def test_every_reference_resolves(tmp_path: Path) -> None:
    document = described(tmp_path, ASKED)
    schemas = document["components"]["schemas"]
    assert set(references(document)) == {f"#/components/schemas/{name}" for name in schemas}
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


@pytest.mark.parametrize("streams", [False, True])
def test_a_stream_is_described_as_events_and_as_a_list(tmp_path: Path, streams: bool) -> None:
    document = described(tmp_path, msgspec.structs.replace(ASKED, streams=streams))
    content = document["paths"]["/models/m"]["post"]["responses"]["200"]["content"]
    assert ("text/event-stream" in content) is streams
    assert (content["application/json"]["schema"].get("type") == "array") is streams
