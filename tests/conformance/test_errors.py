"""Errors: the words that clients look for, the status, and a server that goes on."""

import json
import struct
import threading
from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.conftest import MAX_INPUT_BYTES
from conformance.models import one, pair, tensor
from lifecycle.onnx_models import STEPS_PER_MS
from lifecycle.process import ServerProcess, json_input, wait_until

Client: TypeAlias = triton.InferenceServerClient
LENGTH = "Inference-Header-Content-Length"


def refused(client: Client, model: str, inputs: list[triton.InferInput], **options: Any) -> str:
    """The message of a request that is refused with 400."""
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, inputs, **options)
    assert error.value.status() == "400", error.value
    return str(error.value.message())


def fp32(*shape: int, name: str = "INPUT0") -> triton.InferInput:
    return tensor(name, "FP32", np.ones(shape, np.float32))


@pytest.mark.parametrize("version", ["99", "0", "01x", "-1"])
def test_an_unknown_version_is_404(client: Client, version: str) -> None:
    with pytest.raises(InferenceServerException) as error:
        client.infer("add_sub", pair(), version)
    assert error.value.status() == "404"
    phrase = f"Request for unknown model: 'add_sub' version {version} is not found"
    assert phrase in error.value.message()


def test_an_unknown_input_is_named(client: Client) -> None:
    assert "'OTHER'" in refused(client, "id_FP32", [fp32(1, 1, name="OTHER")])


def test_an_input_that_comes_twice_is_refused(client: Client) -> None:
    assert "'INPUT0'" in refused(client, "id_FP32", [fp32(1, 1), fp32(1, 1)])


def test_an_output_that_is_asked_for_twice_is_refused(client: Client) -> None:
    asked = [triton.InferRequestedOutput("OUTPUT0"), triton.InferRequestedOutput("OUTPUT0")]
    message = refused(client, "add_sub", pair(), outputs=asked)
    assert "output 'OUTPUT0' already exists in request" in message


def test_a_region_of_shared_memory_that_nobody_registered(client: Client) -> None:
    made = triton.InferInput("INPUT0", [1, 1], "FP32")
    made.set_shared_memory("region", 4)
    with pytest.raises(InferenceServerException, match="Unable to find shared memory") as error:
        client.infer("id_FP32", [made])
    assert error.value.status() == "404"


def post(server: ServerProcess, body: bytes, **headers: str) -> tuple[int, str]:
    """Status and message of a raw request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.request("POST", "/v2/models/id_FP32/infer", body, named)
    assert server.status("/v2/health/live") == 200
    return answer.status, answer.error


GOOD = {"inputs": [json_input("INPUT0", "FP32", [1, 1], [1.0])]}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"7", b'{"inputs":7}', b'{"inputs":[7]}', b"{}", b"\xff\xfe",
        b'{"inputs":[{"name":"INPUT0"}]}', b'{"inputs":[]}', b'{"inputs":null}',
        b'{"inputs":[{"name":7,"shape":[1,1],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"INPUT0","shape":["1",1],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"INPUT0","shape":[-1,-1],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"FP33","data":[1]}]}',
        b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"FP32"}]}',
        b'{"inputs":[{"name":"INPUT0","shape":[1,2],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"INPUT0","shape":[1,2],"datatype":"FP32","data":[1,[2]]}]}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_request_is_400(server: ServerProcess, body: bytes) -> None:
    status, message = post(server, body)
    assert status == 400
    assert message


def test_json_that_is_nested_too_deeply_is_refused(server: ServerProcess) -> None:
    nested = b'{"inputs":' + b"[" * 101 + b"]" * 101 + b"}"
    phrase = "JSON nesting depth exceeds maximum allowed limit (100)"
    assert post(server, nested) == (400, phrase)
    assert post(server, b"[" * 500_000)[0] == 400


@pytest.mark.parametrize(
    ("shape", "phrase"),
    [
        ([2**32, 2**32], "causes total element count to exceed maximum size of"),
        ([2**63 - 1, 2**63 - 1, 2], "causes total element count to exceed maximum size of"),
        ([2**62, 1], "byte size overflow for input"),
    ],
)
def test_a_shape_beyond_all_bounds_is_refused(
    server: ServerProcess, shape: list[int], phrase: str
) -> None:
    body = json.dumps({"inputs": [json_input("INPUT0", "FP32", shape, [1.0])]}).encode()
    status, message = post(server, body)
    assert status == 400
    assert phrase in message


@pytest.mark.parametrize(
    "value", ["-1", "x", "1e3", "", "99999999999999999999999999", "+5", "5000", "1_0"]
)
def test_a_wrong_header_length_is_400(server: ServerProcess, value: str) -> None:
    status, message = post(server, json.dumps(GOOD).encode(), **{LENGTH: value})
    assert status == 400
    assert message


def binary(size: int, shape: list[int], datatype: str, tail: bytes) -> tuple[bytes, dict[str, str]]:
    made = {"name": "INPUT0", "shape": shape, "datatype": datatype}
    header = json.dumps({"inputs": [made | {"parameters": {"binary_data_size": size}}]}).encode()
    return header + tail, {LENGTH: str(len(header))}


@pytest.mark.parametrize(
    ("size", "tail"),
    [(4, b""), (4, b"123"), (8, b"12345678"), (3, b"123"), (4, b"12345"), (0, b"")],
)
def test_binary_data_of_the_wrong_size_is_400(
    server: ServerProcess, size: int, tail: bytes
) -> None:
    body, headers = binary(size, [1, 1], "FP32", tail)
    assert post(server, body, **headers)[0] == 400


def test_a_negative_binary_size_is_400(server: ServerProcess) -> None:
    body, headers = binary(-4, [1, 1], "FP32", b"1234")
    assert post(server, body, **headers)[0] == 400


@pytest.mark.parametrize(
    "tail", [b"\x05\x00\x00\x00abc", b"\x05\x00", struct.pack("<I", 2**32 - 1) + b"a", b""]
)
def test_broken_text_elements_are_400(server: ServerProcess, tail: bytes) -> None:
    body, headers = binary(len(tail), [1, 1], "BYTES", tail)
    answer = server.request("POST", "/v2/models/id_BYTES/infer", body, headers)
    assert answer.status == 400
    assert "'INPUT0'" in answer.error


def test_raw_text_needs_a_shape_of_one(server: ServerProcess) -> None:
    answer = server.request("POST", "/v2/models/id_BYTES/infer", b"text", {LENGTH: "0"})
    assert answer.status == 400
    phrase = "For BYTE datatype raw input 'INPUT0', the model must have input shape [1]"
    assert phrase in answer.error


def test_a_raw_body_needs_a_model_with_one_input(server: ServerProcess) -> None:
    answer = server.request("POST", "/v2/models/add_sub/infer", b"1234", {LENGTH: "0"})
    assert answer.status == 400


def test_a_raw_body_that_fits_no_shape_is_400(server: ServerProcess) -> None:
    assert post(server, b"12345", **{LENGTH: "0"})[0] == 400
    answer = server.request("POST", "/v2/models/unbatched/infer", b"1234", {LENGTH: "0"})
    assert (answer.status, "more than one variable-sized" in answer.error) == (400, True)


def test_an_unknown_encoding_is_501_and_says_which_there_are(server: ServerProcess) -> None:
    headers = {"Content-Encoding": "br"}
    answer = server.request("POST", "/v2/models/id_FP32/infer", b"x", headers)
    assert answer.status == 501
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_what_its_encoding_says_is_400(
    server: ServerProcess, encoding: str
) -> None:
    assert post(server, b"not compressed", Content_Encoding=encoding)[0] == 400


def test_a_body_over_the_limit_is_refused(server: ServerProcess) -> None:
    status, message = post(server, b" " * (MAX_INPUT_BYTES + 1))
    assert status == 413
    assert "exceeds the maximum allowed input size" in message


def test_a_body_that_grows_over_the_limit_is_refused(server: ServerProcess) -> None:
    import gzip

    bomb = gzip.compress(b" " * (MAX_INPUT_BYTES + 1))
    status, message = post(server, bomb, Content_Encoding="gzip")
    assert status == 413
    assert "exceeds the maximum allowed input size" in message


@pytest.mark.parametrize(
    "parameters",
    [{"timeout": -1}, {"timeout": "x"}, {"timeout": 1.5}, {"triton_x": 1},
     {"binary_data_output": 1}, {"x": {}}, {"x": []}],
)  # fmt: skip
def test_a_wrong_parameter_is_400(server: ServerProcess, parameters: dict[str, Any]) -> None:
    assert post(server, json.dumps(GOOD | {"parameters": parameters}).encode())[0] == 400


@pytest.mark.parametrize("name", ["add_sub%2Finfer", "..%2Fadd_sub", "%ff", "%00", "a" * 5000])
def test_odd_names_are_unknown_models(server: ServerProcess, name: str) -> None:
    answer = server.infer(name, GOOD)
    assert answer.status == 404
    assert answer.error


def test_a_timeout_that_passes_in_the_queue_is_503(server: ServerProcess, client: Client) -> None:
    long = {"inputs": [json_input("INPUT0", "FP32", [1, 1], [500 * STEPS_PER_MS])]}
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(server.infer("held", long).status))
    before = server.statistics("held")
    running.start()
    in_flight = 'inferd_in_flight{model="held",version="1"} 1.0'
    wait_until(lambda: in_flight in server.get("/metrics").body.decode(), "a request runs")
    with pytest.raises(InferenceServerException, match="Request timeout expired") as error:
        client.infer("held", one(), timeout=1000)
    assert error.value.status() == "503"
    assert running.is_alive()
    running.join()
    assert answers == [200]
    after = server.statistics("held")
    assert after["inference_stats"]["fail"]["count"] == (
        before["inference_stats"]["fail"]["count"] + 1
    )
