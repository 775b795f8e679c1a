"""From the body of an inference request, JSON or binary, to an InferenceRequest. Pure.

Sources: Open Inference Protocol (REST) and Triton's binary tensor data extension; messages use the
phrases that Triton's clients and tests look for.
"""

from itertools import chain
from typing import Any

import msgspec

from inferd.errors import InvalidRequest
from inferd.protocols.depth import MAX_DEPTH, check_depth
from inferd.protocols.lenient import decode_with_nan, has_nan
from inferd.protocols.oip.parameters import NO_OPTIONS, request_options, requested_output
from inferd.protocols.oip.shared_memory import (
    REGION,
    ReadShared,
    no_shared_memory,
    shared_place,
)
from inferd.protocols.oip.tensors import (
    binary_tensor,
    datatype_named,
    element_count,
    from_values,
)
from inferd.schemas.oip import InferInput, InferOutput, InferRequest
from inferd.types.datatype import BF16, FP16, DataType
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import Array, Tensor

_decoder = msgspec.json.Decoder(InferRequest)

_PYTHON_TYPES: dict[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "bytes": frozenset({str}),
}
_JSON_WORDS = {"float": "numbers", "int": "whole numbers", "bool": "true or false",
               "bytes": "strings"}  # fmt: skip


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
    name: str, version: str, body: bytes, header_length: int | None,
    read: ReadShared = no_shared_memory,
) -> tuple[InferenceRequest, OutputForm]:  # fmt: skip
    """Decode a request for a model; `header_length` is the JSON part's, None when all is JSON, and
    `read` reads inputs that lie in shared memory.

    Arrays of binary inputs are read-only views of `body`. Raises InvalidRequest, RegionNotFound,
    Unsupported.
    """
    if header_length is None:
        wire = decode_json(body)
        binary, offset = None, 0
    else:
        wire = decode_json(body[:header_length])
        binary, offset = memoryview(body), header_length
    if binary is None and not (wire.parameters or wire.outputs or wire.id):
        inputs = [_tensor_in_json(i, name, read) for i in wire.inputs]
        return InferenceRequest(name, version, inputs), JSON_FORM
    form = OutputForm()
    options = request_options(wire.parameters) if wire.parameters else NO_OPTIONS
    form.binary_default = options.binary
    inputs = []
    for wire_input in wire.inputs:
        if wire_input.parameters and binary is not None:
            size = _binary_size(wire_input)
            if size is not None:
                inputs.append(_binary_tensor(wire_input, binary, offset, size, name))
                offset += size
                continue
        inputs.append(_tensor_in_json(wire_input, name, read))
    if binary is not None and offset != len(binary):
        raise InvalidRequest(
            f"unexpected additional input data for model '{name}': {len(binary) - offset} bytes "
            "behind the last binary input"
        )
    outputs = _requested_outputs(wire.outputs, form) if wire.outputs else None
    request = InferenceRequest(
        name, version, inputs, outputs, wire.id, options.parameters, options.timeout_us,
        priority=options.priority, sequence=options.sequence,
    )  # fmt: skip
    return request, form


def _tensor_in_json(wire: InferInput, model: str, read: ReadShared) -> Tensor:
    if not wire.parameters:
        return json_tensor(wire)
    place = shared_place(f"input '{wire.name}'", wire.parameters)
    if place is not None:
        if wire.data is not None or "binary_data_size" in wire.parameters:
            raise InvalidRequest(
                f"input '{wire.name}' has data and 'shared_memory_region'; send one of them"
            )
        data = read(place)
        return binary_tensor(wire.name, wire.datatype, wire.shape, data, 0, len(data), model)
    if _binary_size(wire) is not None:
        raise InvalidRequest(
            f"input '{wire.name}' has 'binary_data_size', but the request has no "
            "'Inference-Header-Content-Length' header"
        )
    return json_tensor(wire)


def decode_json(body: bytes) -> InferRequest:
    """Parse the JSON part; NaN and Infinity, which strict JSON lacks, are accepted."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        check_depth(body)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        said: Exception = error
        if has_nan(body):
            try:
                return msgspec.convert(decode_with_nan(body), InferRequest)
            except (ValueError, RecursionError, msgspec.ValidationError) as found:
                said = found  # the strict one stopped at what is allowed here
        raise InvalidRequest(_json_message(body, said)) from said


def _json_message(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "failed to parse the request JSON buffer: The document is empty."
    return f"failed to parse the request JSON buffer: {error}"


# -- parameters ------------------------------------------------------------------------------------


def _binary_size(wire: InferInput) -> int | None:
    parameters = wire.parameters or {}
    size = parameters.get("binary_data_size")
    if size is None or REGION in parameters:
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
        output, binary = requested_output(entry.name, entry.parameters or {}, form.binary_default)
        form.by_name[entry.name] = binary
        outputs.append(output)
    return outputs


# -- tensors ---------------------------------------------------------------------------------------


def json_tensor(wire: InferInput) -> Tensor:
    """An input whose elements are JSON values; raises InvalidRequest."""
    datatype = datatype_named(wire.name, wire.datatype)
    count = element_count(wire.name, wire.shape, datatype)
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
        flat = [value.encode() for value in flat]
    return from_values(wire.name, "data", flat, datatype)


def _binary_tensor(
    wire: InferInput, body: memoryview, offset: int, size: int, model: str
) -> Tensor:
    if offset + size > len(body):
        raise InvalidRequest(
            f"unexpected end of request: input '{wire.name}' needs {size} bytes, only "
            f"{len(body) - offset} are left"
        )
    return binary_tensor(wire.name, wire.datatype, wire.shape, body, offset, size, model)
