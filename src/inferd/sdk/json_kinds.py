"""Values that are JSON texts: what msgspec reads, and what pydantic reads."""

import importlib
from typing import Any

import msgspec
import numpy as np

from inferd.sdk.array_kind import array_schema
from inferd.sdk.dtypes import datatype_of, is_array, numpy_scalar
from inferd.sdk.image import IMAGE_SCHEMA, decode_image, encode_image, is_image_class
from inferd.sdk.kinds import Kind, to_bytes, to_json_value
from inferd.sdk.mismatch import Mismatch, from_msgspec, type_name
from inferd.types.signature import Form


class JsonKind(Kind):
    """A type that msgspec reads: dataclasses, structs, collections, literals, unions, dates.

    Arrays inside are nested lists, pictures inside are base64. A result is checked as strictly as
    an argument.
    """

    form: Form = "json"

    def __init__(self, annotation: Any) -> None:
        self._decoder = msgspec.json.Decoder(annotation, dec_hook=_from_json)
        (schema,), definitions = msgspec.json.schema_components(
            [annotation], schema_hook=_schema, ref_template="#/$defs/{name}"
        )
        self.schema = {**schema, "$defs": definitions} if definitions else schema
        self.expects = getattr(annotation, "__name__", None) or str(annotation)

    def decode(self, item: Any) -> Any:
        try:
            return self._decoder.decode(to_bytes(item))
        except msgspec.ValidationError as error:
            raise from_msgspec(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Mismatch(f"expected JSON: {error}") from None

    def encode(self, value: Any) -> bytes:
        try:
            text = msgspec.json.encode(value, enc_hook=_to_json)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Mismatch(f"expected {self.expects}, got {type_name(value)}: {error}") from None
        try:
            self._decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            if not isinstance(error, msgspec.ValidationError):
                raise Mismatch(f"expected {self.expects}, got {type_name(value)}") from None
            wrong = from_msgspec(error)
            note = "; NaN and infinity are null in JSON" if wrong.text.endswith("null") else ""
            raise Mismatch(wrong.text + note, wrong.path) from None
        return text

    def to_json(self, value: Any) -> bytes:
        return self.encode(value)


class PydanticKind(Kind):
    """A pydantic model, or a type made of some."""

    form: Form = "json"

    def __init__(self, annotation: Any) -> None:
        self._pydantic = importlib.import_module("pydantic")
        self._adapter = self._pydantic.TypeAdapter(annotation)
        self.schema = self._adapter.json_schema(ref_template="#/$defs/{model}")
        self.expects = getattr(annotation, "__name__", None) or str(annotation)

    def decode(self, item: Any) -> Any:
        text = to_bytes(item)
        try:
            return self._adapter.validate_json(text)
        except self._pydantic.ValidationError as error:
            raise _from_pydantic(error) from None

    def encode(self, value: Any) -> bytes:
        try:
            text: bytes = self._adapter.dump_json(self._adapter.validate_python(value))
        except self._pydantic.ValidationError as error:
            raise _from_pydantic(error) from None
        except ValueError as error:  # of pydantic_core, for what has no JSON form
            raise Mismatch(f"expected {self.expects}, got {type_name(value)}: {error}") from None
        return text

    def to_json(self, value: Any) -> bytes:
        return self.encode(value)


class AnyJsonKind(Kind):
    """JSON of which nothing is known but what its schema says: another model's."""

    form: Form = "json"
    expects = "a JSON value"

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def decode(self, item: Any) -> Any:
        return to_json_value(item)

    def encode(self, value: Any) -> bytes:
        dump = getattr(value, "model_dump_json", None)
        if dump is not None:
            return to_bytes(dump())
        try:
            return msgspec.json.encode(value, enc_hook=_to_json)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Mismatch(f"expected a JSON value, got {type_name(value)}: {error}") from None

    def to_json(self, value: Any) -> bytes:
        return self.encode(value)


def _schema(annotation: Any) -> dict[str, Any]:
    if is_array(annotation):
        return array_schema(datatype_of(numpy_scalar(annotation)), None)
    if is_image_class(annotation):
        return dict(IMAGE_SCHEMA)
    raise TypeError(f"{annotation} has no JSON form")


def _from_json(annotation: Any, value: Any) -> Any:
    if is_array(annotation):
        return np.asarray(value, numpy_scalar(annotation))
    try:
        return decode_image(msgspec.convert(value, bytes))
    except Mismatch as error:
        raise ValueError(error.text) from None  # msgspec adds the path to it


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if is_image_class(type(value)):
        return encode_image(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _from_pydantic(error: Any) -> Mismatch:
    errors = error.errors(include_url=False, include_context=False)
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in errors[0]["loc"])
    text = errors[0]["msg"]
    if len(errors) > 1:
        text += f" (and {len(errors) - 1} more)"
    return Mismatch(text[:1].lower() + text[1:], path)
