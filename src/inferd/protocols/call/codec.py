"""A CallCodec: between named arguments in plain JSON and the tensors of one loaded model. Pure.

One item or several: for a model that batches, an argument may be one item, or, where lists nest one
level deeper than an item's do, a list of items; all arguments must agree, and the answer follows
them. An argument whose depth says nothing (form json, or any shape) is one item, except beside
another argument that is a list of items. An argument with a default may be left out, or null.
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import orjson

from inferd.errors import InvalidRequest
from inferd.protocols.call.arrays import depth_of, wrong
from inferd.protocols.call.reading import ArgumentReader, RawText, is_list, reader_of
from inferd.protocols.call.writing import writer_of
from inferd.protocols.depth import MAX_DEPTH, check_depth
from inferd.protocols.lenient import decode_with_nan, has_nan
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Argument, Signature
from inferd.types.tensor import Array, Tensor, TensorSpec

Arguments = Mapping[str, Any]
"""Values by name: JSON values; `bytes` of files for forms bytes and image; Raw for form json."""

_raw_decoder = msgspec.json.Decoder(dict[str, RawText])
_codecs: "WeakKeyDictionary[ServedModel, dict[str, CallCodec]]" = WeakKeyDictionary()


def codec_of(served: ServedModel, method: str = "predict") -> "CallCodec":
    """The codec of a method of a loaded model, made at its first call; raises InvalidRequest for a
    method that it does not have."""
    codecs = _codecs.get(served)
    if codecs is None:
        codecs = _codecs[served] = {}
    codec = codecs.get(method)
    if codec is None:
        signature, inputs = served.method(method)
        batched = served.description.max_batch_size > 0
        codec = codecs[method] = CallCodec(signature, inputs, batched)
    return codec


class _Entry(msgspec.Struct, frozen=True):
    """An argument and what is worked out from it."""

    argument: Argument
    reader: ArgumentReader
    optional: bool
    lone_shape: tuple[int, ...] | None
    """The tensor's shape where an item of shape () is sent without batching."""


class CallCodec:
    """Decodes the calls of one model and encodes their answers."""

    def __init__(self, signature: Signature, specs: tuple[TensorSpec, ...], batched: bool) -> None:
        self.signature = signature
        self.batched = batched
        by_name = {spec.name: spec for spec in specs}
        self._entries = [_entry(a, by_name.get(a.name)) for a in signature.inputs]
        self._names = {argument.name for argument in signature.inputs}
        self._raw = [a.name for a in signature.inputs if a.form == "json"]
        self._outputs = [(o, writer_of(o)) for o in signature.outputs]
        self._heads = [
            b"%b%b:" % (b"," if i else b"{", orjson.dumps(o.name))
            for i, o in enumerate(signature.outputs)
        ]
        self._bare = signature.bare and len(signature.outputs) == 1
        self._of_some: dict[tuple[str, ...], CallCodec] = {}

    def is_optional(self, name: str) -> bool:
        """Whether a call may leave an argument out."""
        return any(e.optional for e in self._entries if e.argument.name == name)

    # -- in --------------------------------------------------------------------------------------

    def decode(self, body: bytes) -> tuple[list[Tensor], bool]:
        """Tensors of a JSON object of named arguments, and whether they are one item.

        NaN and Infinity, which strict JSON lacks, are numbers. Raises InvalidRequest.
        """
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            check_depth(body)
        try:
            arguments = orjson.loads(body)
        except (ValueError, RecursionError) as error:
            arguments = self._decode_lenient(body, error)
        else:
            if self._raw and type(arguments) is dict:
                raw = _raw_decoder.decode(body)
                arguments |= {name: raw[name] for name in self._raw if name in raw}
        return self.read(arguments)

    def read(self, arguments: Any) -> tuple[list[Tensor], bool]:
        """`decode`, of Arguments: values already."""
        if type(arguments) is not dict:
            example = ", ".join(f'"{e.argument.name}": ...' for e in self._entries)
            raise InvalidRequest(
                f"expected a JSON object of named arguments, {{{example}}}, got "
                f"{'a list' if type(arguments) is list else 'a single value'}"
            )
        given = []
        for entry in self._entries:
            value = arguments.get(entry.argument.name, msgspec.UNSET)
            if value is not msgspec.UNSET and (value is not None or not entry.optional):
                given.append((entry, value))
            elif not entry.optional:
                raise InvalidRequest(self._missing(entry.argument, arguments))
        if arguments.keys() - self._names:
            raise InvalidRequest(self._unknown(arguments))
        if not self.batched:
            return [_lone(entry, value) for entry, value in given], True
        rows = _rows(given)
        if rows < 0:
            return [_row(entry, value) for entry, value in given], True
        return [_batch(entry, value, rows) for entry, value in given], False

    def _decode_lenient(self, body: bytes, error: Exception) -> Any:
        if has_nan(body):
            try:
                document = decode_with_nan(body)
            except (ValueError, RecursionError) as found:
                error = found  # the strict one stopped at what is allowed here
            else:
                for name in self._raw if isinstance(document, dict) else ():
                    _refuse_nan(name, document.get(name))
                return document
        what = f"the body is not JSON: {error}" if body.strip() else "the body is empty"
        raise InvalidRequest(f"{what}; expected a JSON object of named arguments") from error

    def _missing(self, argument: Argument, arguments: Arguments) -> str:
        said = f": {argument.description}" if argument.description else ""
        near = get_close_matches(argument.name, arguments.keys() - self._names, 1)
        hint = f"; '{near[0]}' is no argument, did you mean this one?" if near else ""
        return f"argument '{argument.name}' is required and missing{said}{hint}"

    def _unknown(self, arguments: Arguments) -> str:
        name = min(arguments.keys() - self._names)
        near = get_close_matches(name, self._names, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        known = ", ".join(f"'{e.argument.name}'" for e in self._entries) or "no arguments"
        return f"argument '{name[:100]}' is unknown: {hint}The model takes {known}"

    # -- out -------------------------------------------------------------------------------------

    def encode(self, tensors: list[Tensor], single: bool) -> bytes:
        """The JSON text of an answer's tensors, in the model's order; raises InvalidRequest."""
        if len(tensors) != len(self._outputs):
            return self._encode_some(tensors, single)
        parts = []
        for (result, write), tensor in zip(self._outputs, tensors, strict=True):
            array = tensor.array
            if self.batched:
                parts.append(write(array[0, ...] if single and len(array) == 1 else array))
            else:
                lone = result.shape == () and array.shape == (1,)
                parts.append(write(array.reshape(()) if lone else array))
        if self._bare:
            return parts[0]
        if not parts:
            return b"{}"
        return b"".join([x for pair in zip(self._heads, parts, strict=True) for x in pair]) + b"}"

    def _encode_some(self, tensors: list[Tensor], single: bool) -> bytes:
        """`encode` of a response that has only some of the model's outputs."""
        given = {tensor.name: tensor for tensor in tensors}
        outputs = tuple(o for o in self.signature.outputs if o.name in given)
        names = tuple(o.name for o in outputs)
        some = self._of_some.get(names)
        if some is None:
            signature = msgspec.structs.replace(self.signature, inputs=(), outputs=outputs)
            some = self._of_some[names] = CallCodec(signature, (), self.batched)
        return some.encode([given[name] for name in names], single)


def _entry(argument: Argument, spec: TensorSpec | None) -> _Entry:
    optional = argument.default is not None or (spec is not None and spec.optional)
    scalar = spec is not None and spec.shape == ()
    return _Entry(argument, reader_of(argument), optional, () if scalar else (1,))


def _tensor(entry: _Entry, array: Array) -> Tensor:
    argument = entry.argument
    return Tensor(argument.name, DATATYPES[argument.datatype], array)


def _row(entry: _Entry, value: Any) -> Tensor:
    return _tensor(entry, entry.reader.read_item(value)[None])


def _lone(entry: _Entry, value: Any) -> Tensor:
    array = entry.reader.read_item(value)
    return _tensor(entry, array if array.ndim else array.reshape(entry.lone_shape))


def _batch(entry: _Entry, value: Any, rows: int) -> Tensor:
    if not is_list(value):
        value = orjson.loads(bytes(value)) if type(value) is RawText else value
        wrong(entry.argument.name, f"a list of {rows} items, as the other arguments are", value)
    array = entry.reader.read_items(value)
    if len(array) != rows:
        raise InvalidRequest(
            f"argument '{entry.argument.name}': expected {rows} items, as the other arguments "
            f"have, got {len(array)}"
        )
    return _tensor(entry, array)


def _rows(given: list[tuple[_Entry, Any]]) -> int:
    """How many items the arguments are lists of; -1 when they are one item."""
    rows, lists, item = -1, "", ""
    for entry, value in given:
        depth = entry.reader.depth
        if depth is None:
            continue
        name = entry.argument.name
        if depth_of(value) == depth + 1:
            rows, lists = (len(value), name) if not lists else (rows, lists)
        else:
            item = item or name
    if lists and item:
        raise InvalidRequest(
            f"argument '{item}' is one item, but argument '{lists}' is a list of {rows} items; "
            "send each as one item, or each as a list of as many"
        )
    return rows


def _refuse_nan(name: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise InvalidRequest(
            f"argument '{name}': expected a JSON value, which NaN and Infinity are not"
        ) from None
