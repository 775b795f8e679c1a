import gzip
import json
from typing import Any

import pytest

from e2e.harness import RunningServer
from e2e.wire import GOOD_BODY, assert_refused, assert_refuses, assert_serves, one

BAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "binary_data_output text": (
        {"binary_data_output": "true"},
        "parameter 'binary_data_output' must be true or false",
    ),
    "binary_data_output number": (
        {"binary_data_output": 1},
        "parameter 'binary_data_output' must be true or false",
    ),
    "timeout text": ({"timeout": "5"}, "parameter 'timeout' must be a non-negative integer"),
    "timeout negative": ({"timeout": -1}, "parameter 'timeout' must be a non-negative integer"),
    "timeout fraction": ({"timeout": 1.5}, "parameter 'timeout' must be a non-negative integer"),
    "timeout boolean": ({"timeout": True}, "parameter 'timeout' must be a non-negative integer"),
    "reserved": ({"triton_enable": 1}, "parameter keys starting with 'triton_' are reserved"),
    "null": ({"a": None}, "parameters"),
    "list": ({"a": [1]}, "parameters"),
    "object": ({"a": {}}, "parameters"),
}


@pytest.mark.parametrize(("parameters", "phrase"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_bad_request_parameter_is_refused(
    server: RunningServer, parameters: dict[str, Any], phrase: str
) -> None:
    assert_refuses(server, "mlp", {**GOOD_BODY, "parameters": parameters}, phrase)


@pytest.mark.parametrize("timeout_us", [60_000_000, 2**53, 2**63, 2**64 - 1, 10**30])
def test_timeout_that_is_very_long_is_no_timeout(server: RunningServer, timeout_us: int) -> None:
    answer = server.infer("mlp", {**GOOD_BODY, "parameters": {"timeout": timeout_us}})
    assert answer.status == 200, answer
    assert_serves(server)


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan", "inf", "1e400", "1,5"])
def test_bad_deadline_header_is_refused(server: RunningServer, text: str) -> None:
    answer = server.infer("mlp", GOOD_BODY, {"x-request-timeout-ms": text})
    phrase = "x-request-timeout-ms must be a positive number of milliseconds"
    assert_refused(server, answer, 400, phrase)


BAD_OUTPUTS: dict[str, tuple[list[Any], str]] = {
    "unknown": (
        [{"name": "nope"}],
        "unexpected inference output 'nope' for model 'mlp'; it has: y",
    ),
    "unknown beside known": ([{"name": "y"}, {"name": "nope"}], "inference output 'nope'"),
    "twice": ([{"name": "y"}, {"name": "y"}], "output 'y' already exists in request"),
    "without a name": ([{}], "name"),
    "name a number": ([{"name": 1}], "outputs"),
    "not an object": (["y"], "outputs"),
    "binary_data text": (
        [{"name": "y", "parameters": {"binary_data": "yes"}}],
        "output 'y': parameter 'binary_data' must be true or false",
    ),
    "binary_data number": (
        [{"name": "y", "parameters": {"binary_data": 0}}],
        "output 'y': parameter 'binary_data' must be true or false",
    ),
    "classification text": (
        [{"name": "y", "parameters": {"classification": "3"}}],
        "output 'y': parameter 'classification' must be a positive integer",
    ),
    "classification negative": (
        [{"name": "y", "parameters": {"classification": -1}}],
        "output 'y': parameter 'classification' must be a positive integer",
    ),
    "classification boolean": (
        [{"name": "y", "parameters": {"classification": True}}],
        "output 'y': parameter 'classification' must be a positive integer",
    ),
    "classification fraction": (
        [{"name": "y", "parameters": {"classification": 1.5}}],
        "output 'y': parameter 'classification' must be a positive integer",
    ),
}


@pytest.mark.parametrize(("outputs", "phrase"), BAD_OUTPUTS.values(), ids=BAD_OUTPUTS)
def test_bad_output_is_refused(server: RunningServer, outputs: list[Any], phrase: str) -> None:
    assert_refuses(server, "mlp", {**GOOD_BODY, "outputs": outputs}, phrase)


def test_shared_memory_is_off(server: RunningServer) -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 64}
    outputs = [{"name": "y", "parameters": region}]
    phrase = "start the server with --shared-memory system"
    assert_refuses(server, "mlp", {**GOOD_BODY, "outputs": outputs}, phrase, status=501)
    wire = {"name": "x", "shape": [1, 16], "datatype": "FP32", "parameters": region}
    assert_refuses(server, "mlp", {"inputs": [wire]}, phrase, status=501)


def test_strings_cannot_be_classified(server: RunningServer) -> None:
    body = one("BYTES", [1, 4], ["a", "b", "c", "d"])
    body["outputs"] = [{"name": "y", "parameters": {"classification": 2}}]
    phrase = "class result not available for output due to unsupported type 'BYTES'"
    assert_refuses(server, "identity_bytes", body, phrase)


def test_more_classes_than_there_are_is_all_of_them(server: RunningServer) -> None:
    body = one("FP32", [1, 3], [0.25, 0.5, -1.0])
    for count in (3, 4, 2**31, 2**62):
        body["outputs"] = [{"name": "y", "parameters": {"classification": count}}]
        answer = server.infer("labels", body)
        assert answer.status == 200, answer
        (output,) = answer.json()["outputs"]
        assert output["data"] == ["0.500000:1:dog", "0.250000:0:cat", "-1.000000:2:bird"]
    assert_serves(server)


def test_unknown_fields_are_ignored(server: RunningServer) -> None:
    body = {**GOOD_BODY, "extra": {"deep": [1, {"er": None}]}}
    body["inputs"] = [{**GOOD_BODY["inputs"][0], "more": [[]]}]
    assert server.infer("mlp", body).body == server.infer("mlp", GOOD_BODY).body


@pytest.mark.parametrize("data_size", [256 * 1024, 2 << 20])
def test_large_body_that_is_wrong_is_refused(server: RunningServer, data_size: int) -> None:
    data = [0.5] * (data_size // 4)
    assert_refuses(server, "mlp", one("FP32", [1, 16], data), "needs 16 elements, but 'data' has")
    cut = json.dumps(one("FP32", [1, len(data)], data)).encode()[:-5]
    assert_refuses(server, "free_fp32", cut, "failed to parse the request JSON buffer")


def test_gzip_in_two_members_is_read_whole(server: RunningServer) -> None:
    data = json.dumps(GOOD_BODY).encode()
    body = gzip.compress(data[:50]) + gzip.compress(data[50:])
    answer = server.infer("mlp", body, {"Content-Encoding": "gzip"})
    assert answer.status == 200, answer


def test_what_follows_the_gzip_data_is_refused(server: RunningServer) -> None:
    body = gzip.compress(json.dumps(GOOD_BODY).encode()) + b"and something else"
    answer = server.infer("mlp", body, {"Content-Encoding": "gzip"})
    assert_refused(server, answer, 400, "gzip")
