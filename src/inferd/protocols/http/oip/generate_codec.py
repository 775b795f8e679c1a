"""Generate requests: a flat JSON object whose keys are inputs, the id and parameters, and answers
that are as flat. Pure.

Source: Triton's generate extension. How a list takes the shape of its input is Triton's rule, too:
fixed dimensions first, then what is left goes to the innermost free one.
"""

from math import prod
from typing import Any

import msgspec
import orjson

from inferd.errors import InvalidRequest
from inferd.protocols.depth import MAX_DEPTH, check_depth
from inferd.protocols.http.oip.request_codec import json_tensor
from inferd.protocols.http.oip.response_codec import encode_json
from inferd.protocols.lenient import decode_with_nan, has_nan
from inferd.protocols.oip.parameters import request_options
from inferd.schemas.oip import InferInput
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Tensor, TensorSpec

NESTED = "parameters"
"""The key whose object holds further keys, as the body itself does."""

ONE_RESPONSE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that "
    "generates various number of responses"
)


def decode_generate(
    name: str, version: str, body: bytes, inputs: tuple[TensorSpec, ...]
) -> InferenceRequest:
    """A request for a model with such inputs; raises InvalidRequest."""
    document = generate_document(body)
    specs = {spec.name: spec for spec in inputs}
    tensors: list[Tensor] = []
    parameters: dict[str, Any] = {}
    request_id = document.pop("id", "") if "id" not in specs else ""
    if not isinstance(request_id, str | int) or isinstance(request_id, bool):
        raise InvalidRequest(f"'id' must be a string, got {request_id!r}")
    nested = document.pop(NESTED, {})
    if NESTED in specs:
        raise InvalidRequest(
            f"Keyword: '{NESTED}' for nested schema also given as input tensor name; this model is "
            f"asked on /v2/models/{name}/infer"
        )
    if not isinstance(nested, dict):
        raise InvalidRequest(f"Expected JSON object for keyword: '{NESTED}'")
    for key, value in (*document.items(), *nested.items()):
        if key in specs:
            tensors.append(_tensor(specs[key], value))
        else:
            parameters[key] = _parameter(key, value)
    options = request_options(parameters)
    return InferenceRequest(
        name, version, tensors, None, str(request_id), options.parameters, options.timeout_us,
        priority=options.priority, sequence=options.sequence,
    )  # fmt: skip


def generate_document(body: bytes) -> dict[str, Any]:
    """The object that a body is; raises InvalidRequest."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        check_depth(body)
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        said: Exception = error
        document = None
        if has_nan(body):
            try:
                document = decode_with_nan(body)
            except (ValueError, RecursionError) as found:
                said = found
        if document is None:
            raise InvalidRequest(f"failed to parse the request JSON buffer: {said}") from said
    if not isinstance(document, dict):
        raise InvalidRequest(
            'the body must be a JSON object whose keys are inputs, "id" and parameters'
        )
    return document


def _parameter(key: str, value: Any) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str):
        raise InvalidRequest(
            f"parameter '{key}' has invalid type: it must be a boolean, a number or a string; the "
            "model has no input of that name"
        )
    return value


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    if value is None or isinstance(value, dict):
        raise InvalidRequest(f"input '{spec.name}' must be a value or a list of values")
    flat = value if isinstance(value, list) else [value]
    while flat and all(isinstance(row, list) for row in flat):
        if len({len(row) for row in flat}) > 1:
            raise InvalidRequest(
                f"input '{spec.name}' is not a regular array: rows differ in length"
            )
        flat = [element for row in flat for element in row]
    shape = _shape(spec, len(flat))
    return json_tensor(InferInput(spec.name, shape, spec.datatype.name, None, flat))


def _shape(spec: TensorSpec, count: int) -> list[int]:
    shape = list(spec.shape)
    known = prod([size for size in shape if size >= 0])
    left = count // known if known else 0
    if left * known != count:
        raise _no_fit(spec, count)
    for index in reversed(range(len(shape))):
        if shape[index] < 0:
            shape[index], left = left, 1
    if left != 1 and known:
        raise _no_fit(spec, count)
    return shape


def _no_fit(spec: TensorSpec, count: int) -> InvalidRequest:
    return InvalidRequest(
        f"The schema can not convert input '{spec.name}' to tensor with proper shape: {count} "
        f"elements do not make {list(spec.shape)}"
    )


def encode_generate(response: InferenceResponse) -> bytes:
    """The JSON text of a response; raises InvalidRequest."""
    fields: dict[str, bytes] = {}
    if response.id:
        fields["id"] = orjson.dumps(response.id)
    fields["model_name"] = orjson.dumps(response.model_name)
    fields["model_version"] = orjson.dumps(response.model_version)
    for key, value in (response.parameters or {}).items():
        fields.setdefault(key, orjson.dumps(value))
    for tensor in response.outputs:
        text = encode_json(tensor)
        fields.setdefault(tensor.name, text[1:-1] if tensor.array.size == 1 else text)
    return b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(k), v) for k, v in fields.items()])
