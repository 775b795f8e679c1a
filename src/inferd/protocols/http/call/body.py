"""From the body of a call, whatever its content type, to tensors. Pure.

JSON is an object of named arguments; a form has an argument in each part, or several items of one
under the same name; any other file or a text is the only argument that a model needs.
"""

from typing import Any

import orjson

from inferd.errors import InvalidRequest
from inferd.protocols.call.codec import CallCodec
from inferd.protocols.http.call.multipart import Part, boundary_of, parts_of
from inferd.types.signature import Argument
from inferd.types.tensor import Tensor

_FILES = ("image/", "audio/", "video/", "application/octet-stream", "application/pdf")

Decoded = tuple[list[Tensor], bool]


def decode_call(codec: CallCodec, body: bytes, content_type: bytes) -> Decoded:
    """The tensors, and whether they are one item; raises InvalidRequest."""
    kind = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    if kind == "multipart/form-data":
        boundary = boundary_of(content_type.decode("latin-1"))
        return codec.read(_form(codec, parts_of(body, boundary)))
    if kind.startswith(_FILES):
        return codec.read({_only(codec, kind, ("image", "bytes")).name: body})
    if kind == "text/plain":
        argument = _only(codec, kind, ("value", "json"))
        return codec.read({argument.name: _from_text(argument, body)})
    return codec.decode(body)


def _form(codec: CallCodec, parts: list[Part]) -> dict[str, Any]:
    arguments = {argument.name: argument for argument in codec.signature.inputs}
    values: dict[str, list[Any]] = {}
    for part in parts:
        argument = arguments.get(part.name)
        value = part.content if argument is None else _from_part(argument, part)
        values.setdefault(part.name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _from_part(argument: Argument, part: Part) -> Any:
    if argument.form in ("image", "bytes"):
        return part.content if part.is_file else _text(argument.name, part.content)
    return _from_text(argument, part.content)


def _from_text(argument: Argument, content: bytes) -> Any:
    """A text argument as it stands; any other as JSON, which for form json need not be marked."""
    text = _text(argument.name, content)
    if argument.datatype == "BYTES" and argument.form == "value":
        return text
    try:
        return orjson.loads(content)
    except ValueError as error:
        if argument.form == "json":
            return text
        raise InvalidRequest(
            f"argument '{argument.name}': expected its value in JSON, got '{text[:40]}' ({error})"
        ) from error


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"argument '{name}': expected UTF-8 text ({error})") from error


def _only(codec: CallCodec, kind: str, forms: tuple[str, ...]) -> Argument:
    """The one argument that a body without names can be."""
    inputs = codec.signature.inputs
    required = [argument for argument in inputs if argument.default is None]
    candidates = required or list(inputs)
    if len(candidates) != 1 or not _takes(candidates[0], forms):
        names = ", ".join(f"'{a.name}' ({a.form})" for a in candidates)
        raise InvalidRequest(
            f"a body of type {kind[:60]} must be the model's only required argument, but it takes "
            f"{names or 'none'}; send application/json or multipart/form-data with its arguments "
            "by name"
        )
    return candidates[0]


def _takes(argument: Argument, forms: tuple[str, ...]) -> bool:
    text = argument.form != "value" or argument.datatype == "BYTES"
    return argument.form in forms and text
