"""How requests and answers are written: plain JSON, V2 JSON and V2 with binary tensors."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Workload

JSON_HEADERS = {"Content-Type": "application/json"}
FLOATS = {"FP32": "<f4", "FP64": "<f8"}
HEADER_LENGTH = "Inference-Header-Content-Length"

Row = NDArray[np.generic]
Answer = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Message:
    """One request, ready to send."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Wire:
    """A way to write a request of one row, or several, and to read its answer; `path` where it is
    the protocol that says where to."""

    name: str
    encode: Callable[[Workload, Row], Message]
    decode: Callable[[Mapping[str, str], bytes], Answer]
    path: str = ""


def encode_data(_: Workload, row: Row) -> Message:
    """Writes `{"data": [...]}`."""
    return Message(JSON_HEADERS, json.dumps({"data": row.tolist()}).encode())


def encode_data_rows(_: Workload, row: Row) -> Message:
    """Writes `{"data": [[...]]}`, a list of one row."""
    return Message(JSON_HEADERS, json.dumps({"data": [row.tolist()]}).encode())


def decode_data(_: Mapping[str, str], body: bytes) -> Answer:
    """Reads `{"data": [...]}` or a bare list, nested or not."""
    content = json.loads(body)
    numbers = content["data"] if isinstance(content, dict) else content
    return np.asarray(numbers, dtype=np.float64).ravel()


def tensor(workload: Workload, row: Row) -> dict[str, Any]:
    """Describes the V2 input; a model that does not batch gets the row as it is."""
    shape = list(row.shape) if row.ndim > 1 or not workload.max_batch else [1, *row.shape]
    return {"name": workload.input_name, "shape": shape, "datatype": workload.datatype}


def encode_v2(workload: Workload, row: Row) -> Message:
    """Writes an Open Inference Protocol request."""
    body = {"inputs": [{**tensor(workload, row), "data": row.ravel().tolist()}]}
    return Message(JSON_HEADERS, json.dumps(body).encode())


def decode_v2(_: Mapping[str, str], body: bytes) -> Answer:
    """Reads the first output of an Open Inference Protocol answer."""
    numbers = json.loads(body)["outputs"][0]["data"]
    return np.asarray(numbers, dtype=np.float64).ravel()


def encode_v2_binary(workload: Workload, row: Row) -> Message:
    """Writes a request whose tensor of floats follows the JSON header raw."""
    raw = row.astype(FLOATS[workload.datatype]).tobytes()
    described = {**tensor(workload, row), "parameters": {"binary_data_size": len(raw)}}
    content = {"inputs": [described], "parameters": {"binary_data_output": True}}
    header = json.dumps(content).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Message(headers, header + raw)


def encode_call(workload: Workload, row: Row) -> Message:
    """Writes named arguments, plainly."""
    return Message(JSON_HEADERS, json.dumps({workload.input_name: row.tolist()}).encode())


def decode_call(_: Mapping[str, str], body: bytes) -> Answer:
    """Reads the one result, which is all that the answer holds."""
    numbers = json.loads(body)
    return np.asarray(numbers, dtype=np.float64).ravel()


def decode_v2_binary(headers: Mapping[str, str], body: bytes) -> Answer:
    """Reads the raw floats of the one tensor behind the answer's JSON header."""
    length = headers.get(HEADER_LENGTH)
    if length is None:
        raise ValueError(f"the answer has no {HEADER_LENGTH} header")
    (described,) = json.loads(body[: int(length)])["outputs"]
    return np.frombuffer(body[int(length) :], dtype=FLOATS[described["datatype"]])


DATA = Wire("JSON", encode_data, decode_data)
DATA_ROWS = Wire("JSON", encode_data_rows, decode_data)
V2 = Wire("V2 JSON", encode_v2, decode_v2, "/v2/models/{name}/infer")
V2_BINARY = Wire("V2 binary", encode_v2_binary, decode_v2_binary, "/v2/models/{name}/infer")
CALL = Wire("plain JSON", encode_call, decode_call, "/models/{name}")
