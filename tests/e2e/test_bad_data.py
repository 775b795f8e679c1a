import json
import math
from typing import Any

import numpy as np
import pytest

from e2e.harness import RunningServer
from e2e.wire import assert_refuses, assert_serves, binary_body, one

INTEGERS = ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]


def limits(datatype: str) -> tuple[int, int]:
    info = np.iinfo(np.dtype(datatype.lower()))
    return int(info.min), int(info.max)


def ask_identity(server: RunningServer, datatype: str, data: list[Any] | str) -> list[Any]:
    """What the identity of four values gives; `data` as text is JSON as it stands."""
    text = data if isinstance(data, str) else json.dumps(data)
    body = json.dumps(one(datatype, [1, 4], None)).replace("null", text)
    answer = server.infer(f"identity_{datatype.lower()}", body.encode())
    assert answer.status == 200, answer
    (output,) = answer.json()["outputs"]
    assert output["datatype"] == datatype
    assert output["shape"] == [1, 4]
    found: list[Any] = output["data"]
    return found


WRONG_KIND: dict[str, tuple[str, list[Any]]] = {
    "strings in FP32": ("FP32", ["1", "2", "3", "4"]),
    "one string in FP32": ("FP32", [1.0, 2.0, 3.0, "4"]),
    "strings in INT64": ("INT64", ["1", "2", "3", "4"]),
    "fractions in INT32": ("INT32", [1.5, 2.5, 3.5, 4.5]),
    "one fraction in INT32": ("INT32", [1, 2, 3, 4.5]),
    "whole floats in INT32": ("INT32", [1.0, 2.0, 3.0, 4.0]),
    "booleans in FP32": ("FP32", [True, False, True, False]),
    "one boolean in FP32": ("FP32", [True, 0.5, 0.5, 0.5]),
    "one boolean in FP64": ("FP64", [0.5, 0.5, 0.5, False]),
    "one boolean in INT32": ("INT32", [True, 1, 1, 1]),
    "numbers in BOOL": ("BOOL", [0, 1, 0, 1]),
    "one number in BOOL": ("BOOL", [True, False, True, 1]),
    "numbers in BYTES": ("BYTES", [1, 2, 3, 4]),
    "null in FP32": ("FP32", [None, 1.0, 1.0, 1.0]),
    "null in INT32": ("INT32", [None, 1, 1, 1]),
    "null in BOOL": ("BOOL", [None, True, True, True]),
    "null in BYTES": ("BYTES", [None, "a", "b", "c"]),
    "objects in FP32": ("FP32", [{}, {}, {}, {}]),
    "objects in BYTES": ("BYTES", [{}, {}, {}, {}]),
    "ragged FP32": ("FP32", [[1.0, 2.0, 3.0], [4.0]]),
    "ragged INT32": ("INT32", [[1, 2, 3], [4]]),
    "list among numbers": ("FP32", [1.0, [2.0], 3.0, 4.0]),
}


@pytest.mark.parametrize(("datatype", "data"), WRONG_KIND.values(), ids=WRONG_KIND)
def test_data_of_the_wrong_kind_is_refused(
    server: RunningServer, datatype: str, data: list[Any]
) -> None:
    model = f"identity_{datatype.lower()}"
    assert_refuses(server, model, one(datatype, [1, 4], data), "input 'x'")


@pytest.mark.parametrize("datatype", ["FP32", "INT32", "BYTES", "BOOL"])
@pytest.mark.parametrize("data", [None, {"0": 1}], ids=["null", "object"])
def test_data_that_is_no_list_is_refused(server: RunningServer, datatype: str, data: Any) -> None:
    model = f"identity_{datatype.lower()}"
    assert_refuses(server, model, one(datatype, [1, 4], data), "input 'x'")


def test_data_that_is_left_out_is_refused(server: RunningServer) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32"}]}
    assert_refuses(server, "mlp", body, "input 'x' has no data")


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_out_of_range_are_refused(server: RunningServer, datatype: str) -> None:
    low, high = limits(datatype)
    for value in (low - 1, high + 1, 2**70, -(2**70)):
        body = one(datatype, [1, 4], [value, 1, 1, 1])
        assert_refuses(server, f"identity_{datatype.lower()}", body, "input 'x'")


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_at_the_limits_come_back_exactly(server: RunningServer, datatype: str) -> None:
    low, high = limits(datatype)
    data = [low, high, high - 1, 1]
    assert ask_identity(server, datatype, data) == data


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_whole_numbers_of_any_size_are_floats(server: RunningServer, datatype: str) -> None:
    data = [0, -(2**63), 2**64, 10**20]
    assert ask_identity(server, datatype, data) == pytest.approx(data, rel=1e-6)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_nan_and_infinity_are_taken_and_come_back_as_null(
    server: RunningServer, datatype: str
) -> None:
    assert ask_identity(server, datatype, "[NaN, Infinity, -Infinity, 2.5]") == [
        None,
        None,
        None,
        2.5,
    ]
    assert_serves(server)


@pytest.mark.parametrize("datatype", ["INT32", "BOOL", "BYTES"])
def test_nan_is_refused_where_it_is_no_value(server: RunningServer, datatype: str) -> None:
    body = json.dumps(one(datatype, [1, 4], [math.nan] * 4)).encode()
    assert_refuses(server, f"identity_{datatype.lower()}", body, "input 'x'")


def test_nan_outside_of_data_is_refused(server: RunningServer) -> None:
    for body in (
        b'{"inputs": NaN}',
        b'{"inputs": [{"name": "x", "shape": [NaN, 16], "datatype": "FP32", "data": []}]}',
        b'{"inputs": [{"name": "x", "shape": [1, Infinity], "datatype": "FP32", "data": []}]}',
        b'{"parameters": {"timeout": NaN}, "inputs": [{"name": "x", "shape": [1, 16], '
        b'"datatype": "FP32", "data": [1]}]}',
    ):
        assert_refuses(server, "mlp", body, "")


def test_nan_from_the_model_is_null_and_leaves_the_answer_strict_json(
    server: RunningServer,
) -> None:
    inputs = [
        {"name": name, "shape": [1, 4], "datatype": "FP32", "data": [math.inf, 1, 2, 3]}
        for name in ("a", "b")
    ]
    answer = server.infer("add", json.dumps({"inputs": inputs}).encode())
    assert answer.status == 200, answer
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs == {"sum": [None, 2, 4, 6], "difference": [None, 0, 0, 0]}


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_16_bit_floats_in_json_are_refused(server: RunningServer, datatype: str) -> None:
    body = one(datatype, [1, 4], [0.5] * 4)
    assert_refuses(server, f"identity_{datatype.lower()}", body, f"{datatype} data cannot be sent")


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_16_bit_floats_cannot_be_answered_in_json(server: RunningServer, datatype: str) -> None:
    wire = {"name": "x", "shape": [1, 4], "datatype": datatype, "parameters": {}}
    wire["parameters"] = {"binary_data_size": 8}
    body, headers = binary_body({"inputs": [wire]}, bytes(8))
    answer = server.infer(f"identity_{datatype.lower()}", body, headers)
    assert answer.status == 400, answer
    assert f"sending {datatype} data via JSON is not supported" in answer.error
    assert_serves(server)
    body, headers = binary_body({"inputs": [wire], "parameters": {"binary_data_output": True}},
                                bytes(range(8)))  # fmt: skip
    answer = server.infer(f"identity_{datatype.lower()}", body, headers)
    assert answer.status == 200, answer
    length = int(answer.headers["inference-header-content-length"])
    assert answer.body[length:] == bytes(range(8))


def test_strings_of_uneven_length_where_numbers_belong_cost_no_memory(
    server: RunningServer,
) -> None:
    # An array of text takes the longest string's room for each of its elements: here 10 GB.
    data = ["a" * 200_000] + [""] * 13_000
    before = server.metric("inferd_resident_memory_bytes")
    body = one("FP32", [1, len(data)], data)
    with server.limited_memory(2 << 30):
        assert_refuses(server, "free_fp32", body, "input 'x'")
    assert server.metric("inferd_resident_memory_bytes") < before + (256 << 20)


def test_good_strings_come_back(server: RunningServer) -> None:
    data = ["", "ключ", "a\u0000b", "\U0001f600" * 100]
    assert ask_identity(server, "BYTES", data) == data


def test_string_with_half_a_character_is_refused(server: RunningServer) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"BYTES","data":["\\ud800",%b]}]}'
    assert_refuses(server, "identity_bytes", body % b'"","",""', "")
