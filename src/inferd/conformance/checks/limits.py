"""Numbers and bodies beyond all bounds: refused, and the server lives on."""

import json

from inferd.conformance.check import check, holds, same
from inferd.conformance.wire import Wire

AREA = "limits"


@check(AREA, models=("identity_FP32",), wires=("http",), cases=[
    ([2**32, 2**32],), ([2**62, 1],), ([2**63 - 1, 2**63 - 1, 2],),
])  # fmt: skip
def a_shape_beyond_all_bounds_is_refused(wire: Wire, shape: list[int]) -> None:
    given = {"name": "INPUT0", "shape": shape, "datatype": "FP32", "data": [1.0]}
    reply = wire.http("POST", "/v2/models/identity_FP32/infer", {"inputs": [given]})
    # 400, but for Triton, which says 500 of a shape that it cannot count.
    holds(f"status for the shape {shape}", reply.status in (400, 500), "400 or 500", reply.status)
    same("live", wire.client.is_server_live(), True)


@check(AREA, models=("identity_FP32",), wires=("http",), cases=[(101,), (100_000,)])
def json_that_is_nested_deeply_is_refused(wire: Wire, depth: int) -> None:
    body = b'{"inputs":' + b"[" * depth + b"]" * depth + b"}"
    reply = wire.http("POST", "/v2/models/identity_FP32/infer", body)
    same(f"status for {depth} levels", reply.status, 400)
    same("live", wire.client.is_server_live(), True)


@check(AREA, models=("identity_BYTES",), wires=("http",), cases=[
    (b"\x05\x00\x00\x00abc",), (b"\x05\x00",), (b"\xff\xff\xff\xffa",),
])  # fmt: skip
def text_that_is_longer_than_its_body_is_refused(wire: Wire, data: bytes) -> None:
    given = {"name": "INPUT0", "shape": [1, 1], "datatype": "BYTES",
             "parameters": {"binary_data_size": len(data)}}  # fmt: skip
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = wire.http("POST", "/v2/models/identity_BYTES/infer", head + data, headers)
    same(f"status for {data!r}", reply.status, 400)


@check(AREA, wires=("http",), cases=[("/v2/nothing",), ("/v3",)])
def an_unknown_path_is_not_found(wire: Wire, path: str) -> None:
    same(f"status of {path}", wire.http("GET", path).status, 404)


@check(AREA, wires=("http",))
def a_wrong_method_is_refused(wire: Wire) -> None:
    status = wire.http("POST", "/v2/health/live").status
    holds("POST /v2/health/live", status in (400, 405), "400 or 405", status)


@check(AREA, models=("identity_FP32",), wires=("http",))
def an_encoding_that_is_unknown_is_refused(wire: Wire) -> None:
    headers = {"Content-Encoding": "br"}
    reply = wire.http("POST", "/v2/models/identity_FP32/infer", b"x", headers)
    holds("Content-Encoding: br", 400 <= reply.status < 600, "an error", reply.status)
