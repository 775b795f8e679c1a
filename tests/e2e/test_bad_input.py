import json
from typing import Any

import pytest

from e2e.harness import RunningServer
from e2e.wire import GOOD_BODY, assert_refuses, one, tensor

ROW = [0.5] * 16


def nested_list(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def nested_object(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def with_field(field: bytes) -> bytes:
    """The good request with one field more, in front."""
    return b"{" + field + b"," + json.dumps(GOOD_BODY).encode()[1:]


BAD_JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "failed to parse the request JSON buffer: The document is empty."),
    "blank": (b" \r\n\t ", "failed to parse the request JSON buffer: The document is empty."),
    "truncated": (json.dumps(GOOD_BODY).encode()[:-3], "failed to parse the request JSON buffer"),
    "trailing": (json.dumps(GOOD_BODY).encode() + b"x", "failed to parse the request JSON buffer"),
    "not JSON": (b"hello", "failed to parse the request JSON buffer"),
    "single quotes": (b"{'inputs': []}", "failed to parse the request JSON buffer"),
    "not UTF-8": (b'{"inputs": [{"name": "\xff\xfe"}]}', "failed to parse the request JSON"),
    "NUL bytes": (b"\0" * 64, "failed to parse the request JSON buffer"),
    "a list": (b"[]", "failed to parse the request JSON buffer"),
    "null": (b"null", "failed to parse the request JSON buffer"),
    "no inputs": (b"{}", "inputs"),
    "inputs an object": (b'{"inputs": {}}', "inputs"),
    "inputs of numbers": (b'{"inputs": [1]}', "inputs"),
    "id a number": (with_field(b'"id": 7'), "id"),
    "parameters a list": (with_field(b'"parameters": []'), "parameters"),
    "outputs an object": (with_field(b'"outputs": {}'), "outputs"),
    "only NaN": (b"NaN", "failed to parse the request JSON buffer"),
}


@pytest.mark.parametrize(("body", "phrase"), BAD_JSON.values(), ids=BAD_JSON)
def test_body_that_is_no_request_is_refused(
    server: RunningServer, body: bytes, phrase: str
) -> None:
    assert_refuses(server, "mlp", body, phrase)


TOO_DEEP: dict[str, bytes] = {
    "lists in data": b'{"inputs":[{"name":"x","shape":[1,16],"datatype":"FP32","data":'
    + nested_list(120)
    + b"}]}",
    "objects in data": b'{"inputs":[{"name":"x","shape":[1,16],"datatype":"FP32","data":'
    + nested_object(120)
    + b"}]}",
    "lists in parameters": with_field(b'"parameters":{"a":' + nested_list(120) + b"}"),
    "objects in parameters": with_field(b'"parameters":' + nested_object(120)),
    "lists in an unknown field": with_field(b'"extra":' + nested_list(120)),
    "objects in an unknown field": with_field(b'"extra":' + nested_object(120)),
    "lists, thousands": with_field(b'"extra":' + nested_list(10_000)),
    "objects, thousands": with_field(b'"extra":' + nested_object(10_000)),
    "never closed": b"[" * 100_000,
    "objects never closed": b'{"a":' * 20_000,
}


@pytest.mark.parametrize("body", TOO_DEEP.values(), ids=TOO_DEEP)
def test_json_nested_too_deep_is_refused(server: RunningServer, body: bytes) -> None:
    phrase = "JSON nesting depth exceeds maximum allowed limit (100)"
    assert_refuses(server, "mlp", body, phrase)


BAD_SHAPES: dict[str, tuple[list[Any], str]] = {
    "negative": ([-1, 16], "shape must hold non-negative integers"),
    "huge": ([2**62, 16], "causes total element count to exceed maximum size of"),
    "overflowing to 0": ([2**32, 2**32], "causes total element count to exceed maximum size of"),
    "overflowing to 16": (
        [2**60 + 1, 16],
        "causes total element count to exceed maximum size of",
    ),
    "bytes overflowing": ([2**61, 1], "byte size overflow for input"),
    "over 64 bits": ([2**64, 16], "causes total element count to exceed maximum size of"),
    "far over 64 bits": ([2**200, 16], "input"),
    "large but not held": ([2**40, 16], "elements, but 'data' has 16"),
    "too many dimensions": ([1] * 65, "at most 64"),
    "fraction": ([1.5, 16], "shape"),
    "text": (["1", "16"], "shape"),
    "null": ([None, 16], "shape"),
    "boolean": ([True, 16], "shape"),
    "nested": ([[1, 16]], "shape"),
    "none at all": ([], "elements, but 'data' has 16"),
    "one dimension": ([16], "batch-size must be <= 8 for 'mlp'"),
    "three dimensions": (
        [1, 1, 16],
        "unexpected shape for input 'x' for model 'mlp'. Expected [-1,16], got [1,1,16]",
    ),
    "swapped": ([16, 1], "batch-size must be <= 8 for 'mlp'"),
    "halved": ([2, 8], "unexpected shape for input 'x' for model 'mlp'. Expected [-1,16]"),
    "zero columns": ([1, 0], "elements, but 'data' has 16"),
}


@pytest.mark.parametrize(("shape", "phrase"), BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_impossible_shape_is_refused(server: RunningServer, shape: list[Any], phrase: str) -> None:
    assert_refuses(server, "mlp", one("FP32", shape, ROW), phrase)


@pytest.mark.parametrize(
    "shape", [[0, 2**62], [2**62, 0], [0, 2**62, 16], [2**31, 0, 2**31, 2**31]], ids=str
)
@pytest.mark.parametrize("model", ["mlp", "free_fp32"])
def test_zero_rows_of_a_huge_shape_are_refused(
    server: RunningServer, model: str, shape: list[int]
) -> None:
    assert_refuses(server, model, one("FP32", shape, []), "")


def test_shape_that_is_no_list_is_refused(server: RunningServer) -> None:
    for shape in (16, "16", None, {"0": 16}):
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": ROW}]}
        assert_refuses(server, "mlp", body, "shape")


@pytest.mark.parametrize("count", [0, 1, 15, 17, 32])
def test_wrong_number_of_elements_is_refused(server: RunningServer, count: int) -> None:
    phrase = f"input 'x': shape [1, 16] needs 16 elements, but 'data' has {count}"
    assert_refuses(server, "mlp", one("FP32", [1, 16], [0.5] * count), phrase)


@pytest.mark.parametrize("field", ["name", "shape", "datatype"])
def test_input_without_a_field_is_refused(server: RunningServer, field: str) -> None:
    wire = tensor("x", "FP32", [1, 16], ROW)
    del wire[field]
    assert_refuses(server, "mlp", {"inputs": [wire]}, field)


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "BYTES", "BOOL", "UINT8"])
def test_datatype_that_the_model_does_not_take_is_refused(
    server: RunningServer, datatype: str
) -> None:
    value: Any = {"BYTES": "a", "BOOL": True, "FP64": 0.5}.get(datatype, 1)
    phrase = f"inference input 'x' data-type is '{datatype}', but model 'mlp' expects 'FP32'"
    assert_refuses(server, "mlp", one(datatype, [1, 16], [value] * 16), phrase)


@pytest.mark.parametrize("datatype", ["FP8", "fp32", "TYPE_FP32", "", "STRING"])
def test_unknown_datatype_is_refused(server: RunningServer, datatype: str) -> None:
    phrase = f"input 'x': unknown datatype '{datatype}'; one of BOOL, UINT8"
    assert_refuses(server, "mlp", one(datatype, [1, 16], ROW), phrase)


@pytest.mark.parametrize("rows", [9, 64, 10_000])
def test_batch_over_the_maximum_is_refused(server: RunningServer, rows: int) -> None:
    phrase = f"inference request batch-size must be <= 8 for 'mlp', got {rows}"
    assert_refuses(server, "mlp", one("FP32", [rows, 16], [0.5] * (16 * rows)), phrase)


@pytest.mark.parametrize("data", [[], [[]]], ids=str)
def test_batch_of_no_rows_is_refused(server: RunningServer, data: list[Any]) -> None:
    phrase = "inference request batch-size must be >= 1 for 'mlp'"
    assert_refuses(server, "mlp", one("FP32", [0, 16], data), phrase)


@pytest.mark.parametrize("shape", [[3, 2], [6], [1, 2, 3], [2, 2], [4, 3]], ids=str)
def test_model_without_batching_takes_its_own_shape_only(
    server: RunningServer, shape: list[int]
) -> None:
    count = 1
    for dim in shape:
        count *= dim
    phrase = "unexpected shape for input 'x' for model 'fixed'. Expected [2,3]"
    assert_refuses(server, "fixed", one("FP32", shape, [0.5] * count), phrase)


def test_inputs_of_different_batch_size_are_refused(server: RunningServer) -> None:
    inputs = [tensor("a", "FP32", [1, 4], [0] * 4), tensor("b", "FP32", [2, 4], [0] * 8)]
    phrase = "input 'b' batch size does not match other inputs for 'add'"
    assert_refuses(server, "add", {"inputs": inputs}, phrase)


def test_missing_input_is_refused(server: RunningServer) -> None:
    phrase = "expected 2 inputs but got 1 inputs for model 'add'"
    assert_refuses(server, "add", {"inputs": [tensor("b", "FP32", [1, 4], [0] * 4)]}, phrase)


def test_request_without_inputs_is_refused(server: RunningServer) -> None:
    assert_refuses(server, "mlp", {"inputs": []}, "expected 1 inputs but got 0 inputs")


def test_input_given_twice_is_refused(server: RunningServer) -> None:
    twice = [tensor("x", "FP32", [1, 16], ROW)] * 2
    assert_refuses(server, "mlp", {"inputs": twice}, "input 'x' already exists in request")


@pytest.mark.parametrize("name", ["nope", "X", "", "x ", "\u0000", "ключ"])
def test_unknown_input_is_refused(server: RunningServer, name: str) -> None:
    inputs = [tensor(name, "FP32", [1, 16], ROW)]
    phrase = f"unexpected inference input '{name}' for model 'mlp'; it has: x"
    assert_refuses(server, "mlp", {"inputs": inputs}, phrase)
