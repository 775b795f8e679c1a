"""The extension of binary tensor data: what lies where in a body of HTTP, and compression."""

import gzip
import json
import zlib
from typing import Any

import numpy as np

from inferd.conformance.check import check, holds, same
from inferd.conformance.wire import Reply, Wire

AREA = "binary data"
LENGTH = "Inference-Header-Content-Length"
NEEDS: dict[str, Any] = {
    "models": ("identity_FP32",),
    "extensions": ("binary_tensor_data",),
    "wires": ("http",),
}

SENT = np.array([[1.5, -2, 3]], np.float32)


def _post(wire: Wire, said: dict[str, Any], data: bytes = SENT.tobytes(),
          length: str | None = None, **headers: str) -> Reply:  # fmt: skip
    given = {"name": "INPUT0", "shape": [1, 3], "datatype": "FP32",
             "parameters": {"binary_data_size": len(data)}}  # fmt: skip
    head = json.dumps({"inputs": [given], **said}).encode()
    named = {LENGTH: length or str(len(head))}
    return wire.http("POST", "/v2/models/identity_FP32/infer", head + data, named | headers)


def _parts(reply: Reply) -> tuple[dict[str, Any], bytes]:
    """The output's JSON, and what lies behind the head."""
    same("status", reply.status, 200)
    length = int(reply.headers.get(LENGTH.lower(), len(reply.body)))
    (output,) = json.loads(reply.body[:length])["outputs"]
    return output, reply.body[length:]


@check(AREA, **NEEDS)
def an_answer_is_json_unless_binary_is_asked_for(wire: Wire) -> None:
    reply = _post(wire, {})
    output, rest = _parts(reply)
    same("data", (output["data"], rest), ([1.5, -2, 3], b""))
    holds("headers", LENGTH.lower() not in reply.headers, f"no {LENGTH}", reply.headers)


@check(AREA, **NEEDS)
def every_output_is_binary_when_the_request_says_so(wire: Wire) -> None:
    output, rest = _parts(_post(wire, {"parameters": {"binary_data_output": True}}))
    same("output", output.get("parameters"), {"binary_data_size": 12})
    same("data", rest, SENT.tobytes())


@check(AREA, **NEEDS)
def an_output_says_for_itself_whether_it_is_binary(wire: Wire) -> None:
    for whole, own in ((True, False), (False, True)):
        asked = [{"name": "OUTPUT0", "parameters": {"binary_data": own}}]
        said = {"parameters": {"binary_data_output": whole}, "outputs": asked}
        output, _ = _parts(_post(wire, said))
        same(f"binary_data {own}, binary_data_output {whole}", "data" not in output, own)


@check(AREA, **NEEDS)
def inputs_of_both_kinds_can_be_mixed(wire: Wire) -> None:
    inputs = [wire.tensor("INPUT0", np.ones((1, 16), np.float32), binary=False),
              wire.tensor("INPUT1", np.ones((1, 16), np.float32))]  # fmt: skip
    got = wire.infer("add_sub", inputs).as_numpy("OUTPUT0")
    same("sums", got.tolist(), [[2.0] * 16])


@check(AREA, **NEEDS, cases=[("-1",), ("x",), ("99999999",), ("99999999999999999999999",)])
def a_wrong_length_of_the_head_is_refused(wire: Wire, value: str) -> None:
    same(f"status for {LENGTH}: {value}", _post(wire, {}, length=value).status, 400)
    same("live", wire.client.is_server_live(), True)


@check(AREA, **NEEDS, cases=[(0,), (11,), (13,), (4000,)])
def data_of_the_wrong_size_is_refused(wire: Wire, size: int) -> None:
    same("status", _post(wire, {}, bytes(size)).status, 400)


@check(AREA, **NEEDS, cases=[("gzip",), ("deflate",)])
def a_compressed_request_is_read(wire: Wire, encoding: str) -> None:
    given = {"name": "INPUT0", "shape": [1, 3], "datatype": "FP32", "data": [1.5, -2, 3]}
    body = json.dumps({"inputs": [given]}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers = {"Content-Encoding": encoding}
    output, _ = _parts(wire.http("POST", "/v2/models/identity_FP32/infer", packed, headers))
    same("data", output["data"], [1.5, -2, 3])


@check(AREA, **NEEDS, cases=[("gzip",), ("deflate",)])
def an_answer_is_compressed_for_who_asks(wire: Wire, encoding: str) -> None:
    sent = np.zeros((8, 1000), np.float32)
    result = wire.infer("identity_FP32", [wire.tensor("INPUT0", sent)],
                        response_compression_algorithm=encoding)  # fmt: skip
    same("data", bool((result.as_numpy("OUTPUT0") == sent).all()), True)


@check(AREA, models=("vector",), extensions=("binary_tensor_data",), wires=("http",))
def a_body_of_data_alone_is_the_one_input(wire: Wire) -> None:
    sent = np.arange(4, dtype=np.float32)
    reply = wire.http("POST", "/v2/models/vector/infer", sent.tobytes(), {LENGTH: "0"})
    output, rest = _parts(reply)
    same("output", (output["shape"], rest), ([4], sent.tobytes()))
