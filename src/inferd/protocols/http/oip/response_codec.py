"""From an InferenceResponse to the body of an answer, JSON or with binary tensors. Pure.

Floats are written in their shortest form that reads back the same; NaN and infinities, which JSON
lacks, become null. Source: Open Inference Protocol (REST) and Triton's binary extension.
"""

from functools import lru_cache

import numpy as np
import orjson

from inferd.errors import InvalidRequest
from inferd.protocols.http.oip.request_codec import JSON_FORM, OutputForm
from inferd.types.datatype import BF16, BYTES, FP16, FP32, DataType
from inferd.types.elements import encode_binary
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Elsewhere, Tensor

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def encode_response(response: InferenceResponse, form: OutputForm) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part when tensors follow it in binary."""
    outputs = response.outputs
    if form is JSON_FORM and len(outputs) == 1 and not response.id and not response.parameters:
        tensor = outputs[0]
        head = _single_head(
            response.model_name, response.model_version, tensor.name, tensor.datatype,
            tensor.array.shape,
        )  # fmt: skip
        return b"%b%b}]}" % (head, encode_json(tensor)), None
    parts = [_prefix(response.model_name, response.model_version)]
    if response.id:
        parts.append(b'"id":%b,' % orjson.dumps(response.id))
    if response.parameters:
        parts.append(b'"parameters":%b,' % orjson.dumps(dict(response.parameters)))
    parts.append(b'"outputs":[')
    blobs: list[bytes | memoryview] | None = None
    for tensor in response.outputs:
        head = _output_head(tensor.name, tensor.datatype, tensor.array.shape)
        if type(tensor.array) is Elsewhere:
            parts.append(head[:-1] + b"}")
        elif form.is_binary(tensor.name):
            blob = encode_binary(tensor)
            if blobs is None:
                blobs = []
            blobs.append(blob)
            size = blob.nbytes if isinstance(blob, memoryview) else len(blob)
            parts.append(b'%b"parameters":{"binary_data_size":%d}}' % (head, size))
        else:
            parts.append(head)
            parts.append(b'"data":')
            parts.append(encode_json(tensor))
            parts.append(b"}")
        parts.append(b",")
    if response.outputs:
        parts.pop()
    parts.append(b"]}")
    if blobs is None:
        return b"".join(parts), None
    header = b"".join(parts)
    return b"".join([header, *blobs]), len(header)


@lru_cache(maxsize=1024)
def _prefix(name: str, version: str) -> bytes:
    return b'{"model_name":%b,"model_version":%b,' % (orjson.dumps(name), orjson.dumps(version))


@lru_cache(maxsize=4096)
def _single_head(
    name: str, version: str, output: str, datatype: DataType, shape: tuple[int, ...]
) -> bytes:
    head = _output_head(output, datatype, shape)
    return b'%b"outputs":[%b"data":' % (_prefix(name, version), head)


@lru_cache(maxsize=4096)
def single_row_head(
    name: str, version: str, output: str, datatype: DataType, tail: tuple[int, ...], further: bool
) -> bytes:
    """Everything before the numbers of a one-row output; `further` is any but the first."""
    start = b"," if further else b'%b"outputs":[' % _prefix(name, version)
    return b'%b%b"data":[' % (start, _output_head(output, datatype, (1, *tail)))


@lru_cache(maxsize=4096)
def _output_head(name: str, datatype: DataType, shape: tuple[int, ...]) -> bytes:
    return b'{"name":%b,"datatype":"%b","shape":%b,' % (
        orjson.dumps(name), datatype.name.encode(), orjson.dumps(list(shape)),
    )  # fmt: skip


def encode_json(tensor: Tensor) -> bytes:
    """The elements of an output as one flat list; raises InvalidRequest."""
    array = tensor.array
    datatype = tensor.datatype
    if datatype is FP32 and array.flags.c_contiguous:
        return orjson.dumps(array.reshape(-1), option=_NUMPY)
    if datatype is BYTES:
        return _encode_json_strings(tensor)
    if datatype is FP16 or datatype is BF16:
        raise InvalidRequest(
            f"sending {datatype.name} data via JSON is not supported. Please use the binary data "
            f"format for output '{tensor.name}'"
        )
    return orjson.dumps(np.ascontiguousarray(array).reshape(-1), option=_NUMPY)


def _encode_json_strings(tensor: Tensor) -> bytes:
    try:
        return orjson.dumps([_text(value) for value in tensor.array.ravel().tolist()])
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"output '{tensor.name}' holds bytes that are not UTF-8 text; ask for it with "
            'parameters {"binary_data": true}'
        ) from error


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
