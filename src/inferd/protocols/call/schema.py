"""JSON schemas (2020-12) of a model's calls, and the card that describes a model. Pure.

Schemas of arguments come with definitions of their own ($defs); where several stand in one document
these are given names of their own and a common place.
"""

import re
from typing import Any

import orjson

from inferd.protocols.call.codec import CallCodec, codec_of
from inferd.serving.served_llm import ServedLLM
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Argument

Schema = dict[str, Any]

_OWN = "#/$defs/"
_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9._-]")


class Definitions:
    """Collects definitions under names that do not clash, for one place in a document."""

    def __init__(self, place: str = _OWN, prefix: str = "") -> None:
        self.found: dict[str, Schema] = {}
        self._place = place
        self._prefix = prefix

    def hoist(self, owner: str, schema: Schema) -> Schema:
        """The schema with its definitions taken out, and its references following them."""
        own = schema.get("$defs", {})
        names = {name: _key(f"{self._prefix}{owner}.{name}") for name in own}
        for name, definition in own.items():
            self.found[names[name]] = self._moved(definition, names)
        bare: Schema = self._moved({k: v for k, v in schema.items() if k != "$defs"}, names)
        return bare

    def _moved(self, node: Any, names: dict[str, str]) -> Any:
        if isinstance(node, dict):
            return {key: self._moved(value, names) for key, value in node.items()}
        if isinstance(node, list):
            return [self._moved(value, names) for value in node]
        if isinstance(node, str) and node.startswith(_OWN):
            name = node[len(_OWN) :]
            return self._place + names[name] if name in names else node
        return node


def _key(name: str) -> str:
    return _NOT_IN_KEYS.sub("_", name)


def request_schema(codec: CallCodec, definitions: Definitions) -> Schema:
    """That of the body of a call: one item, or, where the model batches, a list of items of each
    argument."""
    inputs = codec.signature.inputs
    schemas = {a.name: _argument_schema(a, definitions) for a in inputs}
    required = [a.name for a in inputs if not codec.is_optional(a.name)]
    one = _object(schemas, required)
    if not codec.batched or not inputs:
        return one
    many = {name: {"type": "array", "minItems": 1, "items": s} for name, s in schemas.items()}
    return {"anyOf": [one, _object(many, required)]}


def response_schema(codec: CallCodec, definitions: Definitions) -> Schema:
    """That of an answer: an item, or, to a list of items, a list. Of a model that streams, that of
    one of its results."""
    outputs = codec.signature.outputs
    schemas = {a.name: _result_schema(a, definitions) for a in outputs}
    if codec.signature.bare and len(outputs) == 1:
        one = schemas[outputs[0].name]
        return {"anyOf": [one, {"type": "array", "items": one}]} if codec.batched else one
    if codec.batched:
        schemas = {
            name: {"anyOf": [schema, {"type": "array", "items": schema}]}
            for name, schema in schemas.items()
        }
    return _object(schemas, list(schemas))


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": False,
    }  # fmt: skip


def _argument_schema(argument: Argument, definitions: Definitions, owner: str = "") -> Schema:
    schema = definitions.hoist(owner + argument.name, argument.schema)
    if argument.description and "description" not in schema:
        schema["description"] = argument.description
    if argument.default is not None and "default" not in schema:
        schema["default"] = orjson.loads(argument.default)
    return schema


def _result_schema(result: Argument, definitions: Definitions) -> Schema:
    schema = _argument_schema(result, definitions, "result.")
    if result.form in ("tensor", "value") and DATATYPES[result.datatype].kind == "float":
        schema = _nullable(schema)
    return schema


def _nullable(schema: Schema) -> Schema:
    """The same for numbers that may be null, as NaN and infinities are written."""
    changed = dict(schema)
    if changed.get("type") == "number":
        changed["type"] = ["number", "null"]
    if isinstance(changed.get("items"), dict):
        changed["items"] = _nullable(changed["items"])
    return changed


# -- cards -----------------------------------------------------------------------------------------


def model_card(served: ServedModel) -> dict[str, Any]:
    """What a caller needs to know of a model of tensors."""
    codec, description = codec_of(served), served.description
    signature = codec.signature
    return {
        "name": served.name,
        "version": str(served.version),
        "kind": "predict",
        "platform": description.platform,
        "description": signature.description,
        "max_batch_size": description.max_batch_size,
        "streams": signature.streams,
        "sessions": signature.sessions,
        "bare": signature.bare,
        "explains": served.explain_signature is not None,
        "inputs": [
            _line(a) | {"required": not codec.is_optional(a.name)} for a in signature.inputs
        ],
        "outputs": [_line(a) for a in signature.outputs],
    }


def model_schemas(served: ServedModel) -> dict[str, Any]:
    """The JSON schemas of a call and of its answer."""
    codec = codec_of(served)
    made = {}
    for name, schema_of in (("request", request_schema), ("response", response_schema)):
        definitions = Definitions()
        schema = schema_of(codec, definitions)
        found = {"$defs": definitions.found} if definitions.found else {}
        made[name] = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | found
    return made


def language_model_card(llm: ServedLLM) -> dict[str, Any]:
    """What a caller needs to know of a language model, which is not called with arguments."""
    return {
        "name": llm.name,
        "version": str(llm.version),
        "kind": "generate",
        "platform": llm.description.platform,
        "description": "",
        "max_model_len": llm.max_len,
    }


def _line(argument: Argument) -> dict[str, Any]:
    line: dict[str, Any] = {
        "name": argument.name, "form": argument.form, "datatype": argument.datatype,
        "shape": None if argument.shape is None else list(argument.shape),
        "schema": argument.schema, "description": argument.description,
    }  # fmt: skip
    if argument.default is not None:
        line["default"] = orjson.loads(argument.default)
    return line
