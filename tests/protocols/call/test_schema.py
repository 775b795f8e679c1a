from typing import Any

import pytest

from inferd.protocols.call.codec import CallCodec
from inferd.protocols.call.schema import Definitions, request_schema, response_schema
from inferd.types.signature import Argument, Signature

POINT = {
    "$ref": "#/$defs/Point",
    "$defs": {
        "Point": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Point"}}},
        "odd name": {"enum": ["#/$defs/unknown"]},
    },
}


def made(batched: bool, bare: bool = False) -> CallCodec:
    inputs = (
        Argument(name="p", datatype="BYTES", form="json", schema=POINT, description="Where"),
        Argument(name="k", datatype="INT32", form="value", schema={"type": "integer"}, default="3"),
    )
    outputs = (
        Argument(
            name="y", datatype="FP32", form="tensor", shape=(2,),
            schema={"type": "array", "items": {"type": "number"}},
        ),
    )  # fmt: skip
    return CallCodec(Signature(inputs=inputs, outputs=outputs, bare=bare), (), batched)


def test_definitions_move_to_one_place_under_names_of_their_own() -> None:
    definitions = Definitions("#/components/schemas/", "a model.")
    schema = request_schema(made(batched=False), definitions)
    assert schema["properties"]["p"] == {
        "$ref": "#/components/schemas/a_model.p.Point", "description": "Where",
    }  # fmt: skip
    point = definitions.found["a_model.p.Point"]
    assert point["properties"]["next"] == {"$ref": "#/components/schemas/a_model.p.Point"}
    assert definitions.found["a_model.p.odd_name"] == {"enum": ["#/$defs/unknown"]}
    assert "$defs" in POINT  # nobody's schema was changed


def test_only_what_has_no_default_is_required() -> None:
    schema = request_schema(made(batched=False), Definitions())
    assert schema["required"] == ["p"]
    assert schema["properties"]["k"] == {"type": "integer", "default": 3}
    assert schema["additionalProperties"] is False


def test_a_model_that_batches_takes_one_or_many() -> None:
    one, many = request_schema(made(batched=True), Definitions())["anyOf"]
    assert one["properties"]["k"]["type"] == "integer"
    assert many["properties"]["k"]["items"]["type"] == "integer"


@pytest.mark.parametrize("bare", [False, True])
def test_numbers_in_answers_may_be_null(bare: bool) -> None:
    schema: Any = response_schema(made(batched=False, bare=bare), Definitions())
    result = schema if bare else schema["properties"]["y"]
    assert result["items"] == {"type": ["number", "null"]}
