"""All 14 datatypes, there and back: as raw bytes, as typed values."""

import json
import struct
from typing import Any

import numpy as np
import tritonclient.grpc as grpc_client
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import triton_to_np_dtype

from inferd.conformance.check import check, same
from inferd.conformance.repository import DATATYPES
from inferd.conformance.wire import TIMEOUT_S, Wire

AREA = "datatypes"

BITS_16 = ("FP16", "BF16")
"""Those that JSON and typed contents have no place for."""

TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def values(datatype: str) -> Any:
    """Two rows of three, with the least and the greatest."""
    if datatype == "BYTES":
        return np.array([[b"", b"a", "ü€".encode()], [b"\x00", b"b" * 300, b" "]], np.object_)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if datatype == "BF16":  # tritonclient takes float32, of which these keep all
        return np.array([[0, 1.5, -2], [2.0**100, -(2.0**-100), 3]], np.float32)
    dtype = triton_to_np_dtype(datatype)
    about = np.finfo(dtype) if datatype.startswith("FP") else np.iinfo(dtype)
    return np.array([[about.min, 0, 1], [about.max, 7, 100]], dtype)


def _each(*left_out: str) -> list[tuple[str]]:
    return [(datatype,) for datatype in DATATYPES if datatype not in left_out]


@check(AREA, models=("identity_{}",), cases=_each())
def raw_bytes_come_back(wire: Wire, datatype: str) -> None:
    sent = values(datatype)
    result = wire.infer(
        f"identity_{datatype}", [wire.tensor("INPUT0", sent, datatype)],
        outputs=[wire.output("OUTPUT0")],
    )  # fmt: skip
    got = result.as_numpy("OUTPUT0")
    same(f"{datatype} in binary", got.tolist(), sent.tolist())


@check(AREA, models=("identity_{}",), cases=_each(*BITS_16), wires=("http",))
def json_comes_back(wire: Wire, datatype: str) -> None:
    sent = values(datatype)
    if datatype == "BYTES":
        sent = np.array([["", "a", "ü€"], ['"\\\n', "b" * 300, " "]], np.object_)
    given = {"name": "INPUT0", "shape": [2, 3], "datatype": datatype, "data": sent.tolist()}
    for data in (sent.tolist(), sent.ravel().tolist()):  # nested, and flat
        body = {"inputs": [given | {"data": data}]}
        reply = wire.http("POST", f"/v2/models/identity_{datatype}/infer", body)
        same(f"status for {datatype} in JSON", (reply.status, reply.body[:300])[: 1 + (
            reply.status != 200)], (200,))  # fmt: skip
        (output,) = reply.json()["outputs"]
        same("datatype and shape", (output["datatype"], output["shape"]), (datatype, [2, 3]))
        got = np.array(output["data"], sent.dtype).reshape(2, 3)
        same(f"{datatype} in JSON", got.tolist(), sent.tolist())


@check(AREA, models=("identity_{}",), cases=[(name,) for name in BITS_16], wires=("http",))
def json_of_16_bits_is_refused(wire: Wire, datatype: str) -> None:
    given = {"name": "INPUT0", "shape": [1, 1], "datatype": datatype, "data": [1]}
    reply = wire.http("POST", f"/v2/models/identity_{datatype}/infer", {"inputs": [given]})
    same(f"status for {datatype} in JSON", reply.status, 400)


@check(AREA, models=("identity_{}",), cases=_each(*BITS_16), wires=("grpc",))
def typed_contents_are_read(wire: Wire, datatype: str) -> None:
    sent = values(datatype)
    request = service_pb2.ModelInferRequest(model_name=f"identity_{datatype}")
    tensor = request.inputs.add(name="INPUT0", datatype=datatype, shape=[2, 3])
    getattr(tensor.contents, TYPED[datatype]).extend(sent.ravel().tolist())
    with grpc_client.grpc.insecure_channel(wire.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
    got = grpc_client.InferResult(answer).as_numpy("OUTPUT0")
    same(f"{datatype} in {TYPED[datatype]}", got.tolist(), sent.tolist())


@check(AREA, models=("strings",))
def bytes_that_are_no_text_come_back(wire: Wire) -> None:
    sent = np.array([[bytes(range(256)), b"\xff\xfe"]], np.object_)
    got = wire.infer("strings", [wire.tensor("INPUT0", sent)]).as_numpy("OUTPUT0")
    same("BYTES that are no UTF-8", got.tolist(), sent.tolist())


@check(AREA, models=("identity_FP32",))
def numbers_that_are_none_come_back_in_binary(wire: Wire) -> None:
    sent = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    got = wire.infer("identity_FP32", [wire.tensor("INPUT0", sent)]).as_numpy("OUTPUT0")
    same("NaN and infinities", [str(one) for one in got.ravel()], ["nan", "inf", "-inf"])


@check(AREA, models=("identity_BYTES",), wires=("http",))
def text_is_as_long_as_its_length_says(wire: Wire) -> None:
    data = struct.pack("<I", 2) + "ü".encode()
    given = {"name": "INPUT0", "shape": [1, 1], "datatype": "BYTES",
             "parameters": {"binary_data_size": len(data)}}  # fmt: skip
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = wire.http("POST", "/v2/models/identity_BYTES/infer", head + data, headers)
    same("status", reply.status, 200)
    same("data", reply.json()["outputs"][0]["data"], ["ü"])
