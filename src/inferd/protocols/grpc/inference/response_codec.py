"""From an InferenceResponse to the bytes of a ModelInferResponse, or of one in a stream. Pure.

Outputs are always in `raw_output_contents`, as Triton's are; those that were written to shared
memory have an empty place there. Everything before the elements of an
output depends on its name, datatype and shape alone, and is kept as bytes.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from inferd.errors import InferdError, Unsupported
from inferd.schemas.pb.messages import message_class
from inferd.types.datatype import BYTES, DataType
from inferd.types.elements import encode_binary
from inferd.types.inference import InferenceRequest, InferenceResponse, Parameters
from inferd.types.tensor import Elsewhere

COPY_BYTES = 64 * 1024
"""An answer below this is one piece; above it, large tensors are left where they are."""

FINAL = "triton_final_response"
"""The parameter of an answer in a stream that says whether it is the last of its request."""

Encoded = bytes | list[bytes | memoryview]
"""A message, in one piece or in several."""

_Response = message_class("inference.ModelInferResponse")
_Parameter = message_class("inference.InferParameter")

_MODEL, _VERSION, _ID, _OUTPUT, _RAW = b"\x0a", b"\x12", b"\x1a", b"\x2a", b"\x32"
_ERROR, _ANSWER = b"\x0a", b"\x12"

_BYTES = [bytes([value]) for value in range(128)]


def encode_infer(response: InferenceResponse) -> Encoded:
    """A ModelInferResponse."""
    outputs = response.outputs
    if len(outputs) == 1 and not response.parameters:
        tensor = outputs[0]
        array = tensor.array
        plain = tensor.datatype is not BYTES and type(array) is not Elsewhere
        if plain and array.nbytes < COPY_BYTES:
            prefix = _prefix(response.model_name, response.model_version)
            only = _only_output(tensor.name, tensor.datatype, array.shape)
            if response.id:
                prefix += _field(_ID, response.id.encode())
            return prefix + only + array.tobytes()
    parts = _parts(response)
    return b"".join(parts) if _size(parts) < COPY_BYTES else parts


def heads_of_rows(
    name: str, version: str, outputs: Sequence[tuple[str, DataType, tuple[int, ...]]]
) -> list[bytes]:
    """What stands before the elements of each output, for outputs of fixed shapes and sizes: an
    answer is each of these and the output's elements, one after the other."""
    heads = [_RAW + varint(prod(shape) * datatype.size_bytes) for _, datatype, shape in outputs]
    described = [_output(*output) for output in outputs]
    return [b"".join((_prefix(name, version), *described, heads[0])), *heads[1:]]


def encode_stream_infer(response: InferenceResponse, final: bool) -> Encoded:
    """A ModelStreamInferResponse; `final` says that no other one answers the same request."""
    response.parameters = {**(response.parameters or {}), FINAL: final}
    return _streamed(b"", response)


def encode_stream_error(
    request: InferenceRequest | None, error: InferdError, final: bool = True
) -> Encoded:
    """A ModelStreamInferResponse with what went wrong with a request, if it could be read."""
    answer = InferenceResponse("", "", [])
    if request is not None:
        answer = empty_response(request)
    answer.parameters = {FINAL: final}
    text = str(error).encode("utf-8", "replace")
    return _streamed(_field(_ERROR, text), answer)


def not_by_infer() -> Unsupported:
    """What is said to a ModelInfer for a model that answers with a stream."""
    return Unsupported(
        "ModelInfer RPC doesn't support models with decoupled transaction policy; use "
        "ModelStreamInfer"
    )


def empty_response(request: InferenceRequest) -> InferenceResponse:
    """An answer to a request that has no outputs."""
    return InferenceResponse(request.model_name, request.model_version, [], request.id)


def _streamed(before: bytes, response: InferenceResponse) -> Encoded:
    parts = _parts(response)
    size = _size(parts)
    parts.insert(0, b"%b%b%b" % (before, _ANSWER, varint(size)))
    return b"".join(parts) if size < COPY_BYTES else parts


def _parts(response: InferenceResponse) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = [_prefix(response.model_name, response.model_version)]
    if response.id:
        parts.append(_field(_ID, response.id.encode()))
    if response.parameters:
        parts.append(_encode_parameters(response.parameters))
    parts += [_output(t.name, t.datatype, t.array.shape) for t in response.outputs]
    for tensor in response.outputs:
        if type(tensor.array) is Elsewhere:
            parts.append(_RAW + varint(0))
            continue
        blob = encode_binary(tensor)
        parts.append(_RAW + varint(len(blob)))
        parts.append(blob)
    return parts


def _size(parts: list[bytes | memoryview]) -> int:
    return sum(map(len, parts))


@lru_cache(maxsize=1024)
def _prefix(name: str, version: str) -> bytes:
    head = _field(_MODEL, name.encode()) if name else b""
    return head + _field(_VERSION, version.encode()) if version else head


@lru_cache(maxsize=4096)
def _output(name: str, datatype: DataType, shape: tuple[int, ...]) -> bytes:
    output = _Response.InferOutputTensor(name=name, datatype=datatype.name, shape=shape)
    return _field(_OUTPUT, output.SerializeToString())


@lru_cache(maxsize=4096)
def _only_output(name: str, datatype: DataType, shape: tuple[int, ...]) -> bytes:
    """Everything between the id and the elements of the only output."""
    size = varint(prod(shape) * datatype.size_bytes)
    return b"%b%b%b" % (_output(name, datatype, shape), _RAW, size)


def _encode_parameters(parameters: Parameters) -> bytes:
    message = _Response()
    for name, value in parameters.items():
        message.parameters[name].CopyFrom(_parameter(value))
    encoded: bytes = message.SerializeToString()
    return encoded


@lru_cache(maxsize=1024, typed=True)
def _parameter(value: bool | int | float | str) -> object:
    if isinstance(value, bool):
        return _Parameter(bool_param=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _Parameter(int64_param=value)
    if isinstance(value, int) and 0 < value < 2**64:
        return _Parameter(uint64_param=value)
    if isinstance(value, (int, float)):
        return _Parameter(double_param=value)
    return _Parameter(string_param=value)


def _field(tag: bytes, data: bytes) -> bytes:
    return b"%b%b%b" % (tag, varint(len(data)), data)


def varint(value: int) -> bytes:
    """A number as Protocol Buffers have it before whatever is so long."""
    if value < 128:
        return _BYTES[value]
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
