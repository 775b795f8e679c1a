"""From the body of an inference request, JSON or binary, to an InferenceRequest. Pure.

Sources: Open Inference Protocol (REST) and Triton's binary tensor data extension; messages use the
phrases that Triton's clients and tests look for.
"""

import json
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from inferd.errors import InvalidRequest, Unsupported
from inferd.protocols.depth import MAX_DEPTH, check_depth
from inferd.schemas.oip import InferInput, InferOutput, InferRequest
from inferd.types.datatype import BF16, BYTES, DATATYPES, FP16, DataType
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import Array, Tensor

MAX_ELEMENTS = 2**63 - 1
MAX_DIMENSIONS = 64

_decoder = msgspec.json.Decoder(InferRequest)

_PYTHON_TYPES: dict[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "bytes": frozenset({str}),
}
_JSON_WORDS = {"float": "numbers", "int": "whole numbers", "bool": "true or false",
               "bytes": "strings"}  # fmt: skip

CONSUMED = frozenset(
    {"binary_data_output", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
"""Request parameters that the server itself acts on or, for models without sequences, ignores."""


class OutputForm:
    """How each output is to be sent: binary or JSON, by name or by the request's default."""

    __slots__ = ("binary_default", "by_name")

    def __init__(self, binary_default: bool = False) -> None:
        self.binary_default = binary_default
        self.by_name: dict[str, bool] | None = None

    def is_binary(self, name: str) -> bool:
        """Whether an output is sent in binary."""
        if self.by_name is None:
            return self.binary_default
        return self.by_name.get(name, self.binary_default)


JSON_FORM = OutputForm()
"""Everything in JSON: what a request without parameters and chosen outputs gets."""


def decode_request(
    name: str, version: str, body: bytes, header_length: int | None
) -> tuple[InferenceRequest, OutputForm]:
    """Decode a request for a model; `header_length` is the JSON part's, None when all is JSON.

    Arrays of binary inputs are read-only views of `body`. Raises InvalidRequest, Unsupported.
    """
    if header_length is None:
        wire = decode_json(body)
        binary, offset = None, 0
    else:
        wire = decode_json(body[:header_length])
        binary, offset = memoryview(body), header_length
    if binary is None and not (wire.parameters or wire.outputs or wire.id):
        return InferenceRequest(name, version, [_tensor_in_json(i) for i in wire.inputs]), JSON_FORM
    form = OutputForm()
    parameters: dict[str, Any] | None = None
    timeout_us = 0
    if wire.parameters:
        parameters, timeout_us = _request_parameters(wire.parameters, form)
    inputs = []
    for wire_input in wire.inputs:
        if wire_input.parameters and binary is not None:
            size = _binary_size(wire_input)
            if size is not None:
                inputs.append(_binary_tensor(wire_input, binary, offset, size, name))
                offset += size
                continue
        inputs.append(_tensor_in_json(wire_input))
    if binary is not None and offset != len(binary):
        raise InvalidRequest(
            f"unexpected additional input data for model '{name}': {len(binary) - offset} bytes "
            "behind the last binary input"
        )
    outputs = _requested_outputs(wire.outputs, form) if wire.outputs else None
    request = InferenceRequest(name, version, inputs, outputs, wire.id, parameters, timeout_us)
    return request, form


def _tensor_in_json(wire: InferInput) -> Tensor:
    if wire.parameters and _binary_size(wire) is not None:
        raise InvalidRequest(
            f"input '{wire.name}' has 'binary_data_size', but the request has no "
            "'Inference-Header-Content-Length' header"
        )
    return _json_tensor(wire)


def decode_json(body: bytes) -> InferRequest:
    """Parse the JSON part; NaN and Infinity, which strict JSON lacks, are accepted."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        check_depth(body)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if b"NaN" in body or b"Infinity" in body:
            try:
                document = json.loads(body)
                if b"\\u" in body:
                    json.dumps(document, ensure_ascii=False).encode()  # half a character is none
                return msgspec.convert(document, InferRequest)
            except (ValueError, RecursionError, msgspec.ValidationError):
                pass  # not that either: the strict parser's error, raised below, says more
        raise InvalidRequest(_json_message(body, error)) from error


def _json_message(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "failed to parse the request JSON buffer: The document is empty."
    return f"failed to parse the request JSON buffer: {error}"


# -- parameters ------------------------------------------------------------------------------------


def _request_parameters(
    wire: Mapping[str, Any], form: OutputForm
) -> tuple[dict[str, Any] | None, int]:
    """The parameters that the model may see, and the queue time-out in microseconds."""
    binary = wire.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise InvalidRequest("parameter 'binary_data_output' must be true or false")
    form.binary_default = binary
    timeout = wire.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise InvalidRequest(
            f"parameter 'timeout' must be a non-negative integer (microseconds), got {timeout!r}"
        )
    rest = {}
    for key, value in wire.items():
        if key.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{key}'")
        if key not in CONSUMED:
            rest[key] = value
    return rest or None, timeout


def _binary_size(wire: InferInput) -> int | None:
    parameters = wire.parameters or {}
    if "shared_memory_region" in parameters:
        raise Unsupported(f"input '{wire.name}': shared memory is not supported by this server")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"input '{wire.name}': parameter 'binary_data_size' must be a non-negative integer, "
            f"got {size!r}"
        )
    if wire.data is not None:
        raise InvalidRequest(
            f"input '{wire.name}' has both 'data' and 'binary_data_size'; send one of them"
        )
    return size


def _requested_outputs(wire: list[InferOutput], form: OutputForm) -> list[RequestedOutput]:
    outputs = []
    form.by_name = {}
    for entry in wire:
        parameters = entry.parameters or {}
        if "shared_memory_region" in parameters:
            raise Unsupported(
                f"output '{entry.name}': shared memory is not supported by this server"
            )
        binary = parameters.get("binary_data", form.binary_default)
        if not isinstance(binary, bool):
            raise InvalidRequest(
                f"output '{entry.name}': parameter 'binary_data' must be true or false"
            )
        count = parameters.get("classification", 0)
        if type(count) is not int or count < 0:
            raise InvalidRequest(
                f"output '{entry.name}': parameter 'classification' must be a positive integer"
            )
        form.by_name[entry.name] = binary
        outputs.append(RequestedOutput(entry.name, count))
    return outputs


# -- tensors ---------------------------------------------------------------------------------------


def _element_count(wire: InferInput, datatype: DataType) -> int:
    """Elements of a shape that an array can have; a 0 does not excuse the other dimensions."""
    shape = wire.shape
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(
            f"input '{wire.name}': shape has {len(shape)} dimensions, at most {MAX_DIMENSIONS}"
        )
    count = extent = 1
    for dim in shape:
        if dim < 0:
            raise InvalidRequest(
                f"input '{wire.name}': shape must hold non-negative integers, got {shape}"
            )
        count *= dim
        extent *= dim or 1
    if extent > MAX_ELEMENTS:
        raise InvalidRequest(
            f"input '{wire.name}': shape {shape} causes total element count to exceed maximum "
            f"size of {MAX_ELEMENTS}"
        )
    if extent * (datatype.size_bytes or 8) > MAX_ELEMENTS:
        raise InvalidRequest(f"byte size overflow for input '{wire.name}' of shape {shape}")
    return count


def _unknown_datatype(wire: InferInput) -> DataType:
    raise InvalidRequest(
        f"input '{wire.name}': unknown datatype '{wire.datatype}'; one of {', '.join(DATATYPES)}"
    )


def _json_tensor(wire: InferInput) -> Tensor:
    datatype = DATATYPES.get(wire.datatype) or _unknown_datatype(wire)
    count = _element_count(wire, datatype)
    flat = _flatten(wire)
    if len(flat) != count:
        raise InvalidRequest(
            f"input '{wire.name}': shape {wire.shape} needs {count} elements, but 'data' has "
            f"{len(flat)}"
        )
    return Tensor(wire.name, datatype, _from_json(wire, flat, datatype).reshape(wire.shape))


def _flatten(wire: InferInput) -> list[Any]:
    """The values of nested or flat data, row by row; lists side by side must be equally long."""
    data = wire.data
    if type(data) is not list:
        data = _not_a_list(wire)
    while data and type(data[0]) is list:
        if len({len(row) if type(row) is list else -1 for row in data}) > 1:
            raise InvalidRequest(
                f"input '{wire.name}': 'data' is not a regular array: rows differ in length"
            )
        data = list(chain.from_iterable(data))
    return data


def _not_a_list(wire: InferInput) -> list[Any]:
    if wire.data is None:
        raise InvalidRequest(
            f"input '{wire.name}' has no data: give 'data', or 'binary_data_size' in its "
            "parameters with the bytes behind the JSON"
        )
    if isinstance(wire.data, dict):
        raise InvalidRequest(f"input '{wire.name}': 'data' must be an array")
    return [wire.data]


def _from_json(wire: InferInput, flat: list[Any], datatype: DataType) -> Array:
    """JSON values as an array. Types are looked at before numpy sees the values: it would take
    true for 1, and a list of strings for an invitation to pad them all to the longest."""
    kind = datatype.kind
    if datatype is FP16 or datatype is BF16:
        raise InvalidRequest(
            f"input '{wire.name}': {datatype.name} data cannot be sent in JSON; use the binary "
            "data extension"
        )
    if not _PYTHON_TYPES[kind].issuperset(map(type, flat)):
        raise InvalidRequest(
            f"input '{wire.name}': 'data' holds values that are not {datatype.name} "
            f"({_JSON_WORDS[kind]} expected)"
        )
    if kind == "bytes":
        return _object_array([value.encode() for value in flat])
    try:
        return np.array(flat, dtype=datatype.dtype)
    except OverflowError as error:
        raise InvalidRequest(
            f"input '{wire.name}': 'data' has values outside of {datatype.name}'s range: {error}"
        ) from error


def _binary_tensor(
    wire: InferInput, body: memoryview, offset: int, size: int, model: str
) -> Tensor:
    datatype = DATATYPES.get(wire.datatype) or _unknown_datatype(wire)
    count = _element_count(wire, datatype)
    if offset + size > len(body):
        raise InvalidRequest(
            f"unexpected end of request: input '{wire.name}' needs {size} bytes, only "
            f"{len(body) - offset} are left"
        )
    if datatype is BYTES:
        array = decode_bytes(wire.name, body[offset : offset + size], count)
    else:
        expected = count * datatype.size_bytes
        if size != expected:
            raise InvalidRequest(
                f"input byte size mismatch for input '{wire.name}' for model '{model}'. "
                f"Expected {expected}, got {size}"
            )
        array = from_buffer(body, datatype, count, offset)
    return Tensor(wire.name, datatype, array.reshape(wire.shape))


def from_buffer(body: memoryview, datatype: DataType, count: int, offset: int) -> Array:
    """Elements of a body, without a copy where they lie aligned."""
    if not count:
        return np.empty(0, datatype.dtype)
    array: Array = np.frombuffer(body, datatype.dtype, count, offset)
    if not array.flags.aligned:
        array = array.copy()
    if datatype.kind == "bool":
        array = array.view(np.uint8).astype(np.bool_)  # any byte but 0 is true
    return array


def decode_bytes(name: str, data: memoryview, count: int) -> Array:
    """BYTES elements: each a little-endian uint32 length and that many bytes."""
    elements: list[bytes] = []
    offset, end = 0, len(data)
    expecting = f"Expecting {count} string elements for inference input '{name}'."
    while offset < end:
        if offset + 4 > end:
            raise InvalidRequest(
                f"incomplete string length indicator for inference input '{name}', expecting 4 "
                f"bytes but only {end - offset} bytes available. {expecting}"
            )
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if offset + length > end:
            raise InvalidRequest(
                f"incomplete string data for inference input '{name}', expecting string of length "
                f"{length} but only {end - offset} bytes available. {expecting}"
            )
        elements.append(bytes(data[offset : offset + length]))
        offset += length
    if len(elements) != count:
        raise InvalidRequest(
            f"unexpected number of string elements {len(elements)} for inference input '{name}', "
            f"expecting {count}"
        )
    return _object_array(elements)


def _object_array(elements: list[bytes]) -> Array:
    array: Array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array
