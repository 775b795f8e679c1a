"""From the bytes of a ModelInferRequest to an InferenceRequest. Pure.

A message is cut into its raw contents, which are read where they lie, and its head, which is all
else but the id: most requests of a client have the same. A head that was seen before, byte for
byte, is not parsed again.

Sources: the protocol's `ModelInferRequest` and Triton's rules for it; messages use the phrases that
Triton's clients and tests look for.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from inferd.errors import InvalidRequest
from inferd.protocols.malformed import parsed
from inferd.protocols.oip.parameters import RequestOptions, request_options, requested_output
from inferd.protocols.oip.shared_memory import (
    REGION,
    ReadShared,
    no_shared_memory,
    shared_place,
)
from inferd.protocols.oip.tensors import binary_array, datatype_named, element_count, from_values
from inferd.schemas.pb.messages import Message, message_class
from inferd.types.datatype import DATATYPES, DataType
from inferd.types.inference import InferenceRequest, RequestedOutput, SharedPlace
from inferd.types.tensor import Array, Tensor

ModelInferRequest = message_class("inference.ModelInferRequest")

HEAVY_BYTES = 64 * 1024
"""A message with more than that outside of raw contents is worth a thread."""

MAX_FIELDS = 65536
"""Inputs, outputs, parameters and raw contents of one request, all counted together."""

WANTS_END = "triton_enable_empty_final_response"
"""The parameter by which the end of a stream is asked for."""

_REGION = REGION.encode()

_KEPT_HEAD_BYTES = 4096
_KEPT_HEADS = 1024

_ALIGNMENT = 64

_ID, _RAW = 0x1A, 0x3A
_OTHERS = frozenset({0x0A, 0x12, 0x22, 0x2A, 0x32})
"""First bytes of the fields of a ModelInferRequest: all have a length."""

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Which field of `contents` is for which datatype; the others have none."""

_TYPE_OF = {field: datatype for datatype, field in _CONTENTS.items()}
"""Of several datatypes the one that has the field's own width."""

Buffer = bytes | bytearray | memoryview


class _Input(NamedTuple):
    name: str
    datatype: DataType
    shape: tuple[int, ...]
    elements: int
    data: Array | SharedPlace | None
    """The elements where the head has them, which are not to be written to, or where they are to be
    read."""


class _Head(NamedTuple):
    model: str
    version: str
    inputs: list[_Input]
    outputs: list[RequestedOutput] | None
    options: RequestOptions
    wants_end: bool


def decode_infer(
    data: Buffer, read: ReadShared = no_shared_memory
) -> tuple[InferenceRequest, bool]:
    """A request, whose arrays are views of `data` where they can be; and whether its client wants
    to be told the end of a stream. `read` reads inputs that lie in shared memory. Raises
    InvalidRequest, RegionNotFound, Unsupported."""
    parts = _cut(data)
    if parts is None:  # broken, or written in an unusual way: write it anew
        message = parsed(ModelInferRequest, data)
        message.DiscardUnknownFields()
        data = message.SerializeToString()
        parts = _cut(data)
        assert parts is not None
    head_bytes, id, contents = parts
    keep = len(head_bytes) <= _KEPT_HEAD_BYTES
    head = _seen_head(head_bytes) if keep else _read_head(head_bytes)
    inputs = head.inputs
    view = data if type(data) is bytes else memoryview(data).toreadonly()
    if len(contents) == len(inputs):
        tensors = [
            _raw_tensor(head, known, view, start, stop)
            for known, (start, stop) in zip(inputs, contents, strict=True)
        ]
    else:
        tensors = _other_tensors(head, view, contents, read)
    options = head.options
    request = InferenceRequest(
        head.model, head.version, tensors, head.outputs, id, options.parameters,
        options.timeout_us, priority=options.priority, sequence=options.sequence,
    )  # fmt: skip
    return request, head.wants_end


def is_heavy(data: Buffer) -> bool:
    """Whether decoding takes long enough to do it on a thread."""
    if len(data) <= HEAVY_BYTES:
        return False
    parts = _cut(data)
    return parts is None or len(parts[0]) > HEAVY_BYTES


def may_share(data: Buffer) -> bool:
    """Whether tensors of a message may lie in shared memory; those of a large one may."""
    return _REGION in data if isinstance(data, bytes) else True


def place_for(size: int, beginning: Buffer) -> memoryview:
    """Room for a message of so many bytes whose beginning is known: its first raw contents will lie
    aligned there, so that they need not be copied once more."""
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -(room.ctypes.data + _raw_offset(beginning)) % _ALIGNMENT
    return room[start : start + size].data


# -- cutting ---------------------------------------------------------------------------------------


def _cut(data: Buffer) -> tuple[bytes, str, list[tuple[int, int]]] | None:
    """Everything but id and raw contents; the id; where raw contents start and stop. None for what
    is not written as a ModelInferRequest usually is."""
    pieces = []
    id: Buffer = b""
    contents = []
    at = since = fields = 0
    end = len(data)
    try:
        while at < end:
            tag = data[at]
            length = data[at + 1]
            start = at + 2
            if length > 127:
                length, start = _long_length(data, at + 1)
            stop = start + length
            if stop > end:
                return None
            if tag in (_RAW, _ID):
                pieces.append(data[since:at])
                since = stop
                if tag == _RAW:
                    contents.append((start, stop))
                else:
                    id = data[start:stop]
            elif tag not in _OTHERS:
                return None
            at = stop
            fields += 1
            if fields > MAX_FIELDS:
                raise InvalidRequest(f"the request has more than {MAX_FIELDS} fields")
    except IndexError:
        return None
    pieces.append(data[since:end])
    try:
        return b"".join(pieces), str(id, "utf-8") if id else "", contents
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the request's id is not UTF-8: {error}") from error


def _raw_offset(beginning: Buffer) -> int:
    """Where the first raw contents start; 0 where that cannot be seen."""
    at = 0
    try:
        while True:
            tag = beginning[at]
            length, start = _long_length(beginning, at + 1)
            if tag == _RAW:
                return start
            if tag != _ID and tag not in _OTHERS:
                return 0
            at = start + length
    except IndexError:
        return 0


def _long_length(data: Buffer, at: int) -> tuple[int, int]:
    """A length of any number of bytes, and where it ends; raises IndexError."""
    value = shift = 0
    while shift < 35:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError


# -- the head --------------------------------------------------------------------------------------


def _read_head(data: bytes) -> _Head:
    message = parsed(ModelInferRequest, data)
    values = _values(message.parameters)
    wants_end = values.pop(WANTS_END, False)
    if type(wants_end) is not bool:
        raise InvalidRequest(
            f"invalid value type for '{WANTS_END}' parameter, expected bool_param."
        )
    options = request_options(values)
    model = message.model_name
    return _Head(
        model, message.model_version, [_input(model, wire) for wire in message.inputs],
        [requested_output(o.name, _values(o.parameters))[0] for o in message.outputs] or None,
        options, wants_end,
    )  # fmt: skip


_seen_head = lru_cache(maxsize=_KEPT_HEADS)(_read_head)


def _values(wire: Mapping[str, Message]) -> dict[str, Any]:
    values = {}
    for key, parameter in wire.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"parameter '{key}' has no value")
        values[key] = getattr(parameter, choice)
    return values


def _input(model: str, wire: Message) -> _Input:
    name = wire.name
    datatype = datatype_named(name, wire.datatype)
    shape = tuple(wire.shape)
    count = element_count(name, shape, datatype)
    data: Array | SharedPlace | None = None
    if wire.parameters:
        data = shared_place(f"input '{name}'", _values(wire.parameters))
    if wire.HasField("contents"):
        if data is not None:
            raise InvalidRequest(
                f"input '{name}' has both 'contents' and 'shared_memory_region'; send one of them"
            )
        data = _typed_array(model, name, datatype, shape, count, wire.contents)
    return _Input(name, datatype, shape, count, data)


def _typed_array(
    model: str, name: str, datatype: DataType, shape: tuple[int, ...], count: int, contents: Message
) -> Array:
    field = _CONTENTS.get(datatype.name)
    for given, _ in contents.ListFields():
        if given.name != field:
            raise InvalidRequest(
                f"unexpected explicit tensor data for input tensor '{name}' for model '{model}' of "
                f"type '{_TYPE_OF[given.name]}', expected datatype '{datatype.name}'"
                + (f" in '{field}'" if field else ", which goes into raw_input_contents")
            )
    if field is None:
        raise InvalidRequest(
            f"input '{name}': {datatype.name} data cannot be sent in 'contents'; use "
            "raw_input_contents"
        )
    values = list(getattr(contents, field))
    if len(values) != count:
        raise InvalidRequest(
            f"input '{name}': shape {list(shape)} needs {count} elements, but '{field}' has "
            f"{len(values)}"
        )
    array = from_values(name, field, values, datatype).reshape(shape)
    array.flags.writeable = False
    return array


# -- tensors ---------------------------------------------------------------------------------------


def _other_tensors(
    head: _Head, view: bytes | memoryview, contents: list[tuple[int, int]], read: ReadShared
) -> list[Tensor]:
    """Tensors that do not all lie in raw contents: without any all are in the head, and those in
    shared memory have none."""
    own = [known for known in head.inputs if type(known.data) is not SharedPlace]
    if contents and len(contents) != len(own):
        for known in own[len(contents) :]:
            if known.data is None:
                raise _no_data(head, known)
        raise InvalidRequest(
            f"expected {len(own)} raw input contents but got {len(contents)} for model "
            f"'{head.model}'"
        )
    rest = iter(contents)
    tensors = []
    for known in head.inputs:
        if type(known.data) is SharedPlace:
            tensors.append(_shared_tensor(head, known, read(known.data)))
        elif contents:
            tensors.append(_raw_tensor(head, known, view, *next(rest)))
        else:
            tensors.append(_typed_tensor(head, known))
    return tensors


def _shared_tensor(head: _Head, known: _Input, data: memoryview) -> Tensor:
    name, datatype, shape, count, _ = known
    array = binary_array(name, datatype, shape, count, data, 0, len(data), head.model)
    return Tensor(name, datatype, array)


def _typed_tensor(head: _Head, known: _Input) -> Tensor:
    if not isinstance(known.data, np.ndarray):
        raise _no_data(head, known)
    return Tensor(known.name, known.datatype, known.data)


def _raw_tensor(
    head: _Head, known: _Input, view: bytes | memoryview, start: int, stop: int
) -> Tensor:
    name, datatype, shape, count, given = known
    if given is not None:
        raise InvalidRequest(
            "contents field must not be specified when using raw_input_contents for "
            f"'{name}' for model '{head.model}'"
        )
    array = binary_array(name, datatype, shape, count, view, start, stop - start, head.model)
    return Tensor(name, datatype, array)


def _no_data(head: _Head, known: _Input) -> InvalidRequest:
    return InvalidRequest(
        f"unable to find data for input tensor '{known.name}' for model '{head.model}' in request."
    )


assert set(_CONTENTS) == set(DATATYPES) - {"FP16", "BF16"}
