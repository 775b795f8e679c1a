"""What an inference request can ask for besides its tensors."""

import json
import zlib
from typing import TypeAlias

import numpy as np
import pytest
import tritonclient.http as triton

from conformance.models import ODD_NAME, Array, pair, tensor
from lifecycle.process import ServerProcess, json_input

Client: TypeAlias = triton.InferenceServerClient
Output: TypeAlias = triton.InferRequestedOutput

COUNT = np.arange(16, dtype=np.float32).reshape(1, 16)


def outputs_of(result: triton.InferResult) -> list[str]:
    return [output["name"] for output in result.get_response()["outputs"]]


def test_all_outputs_come_when_none_is_asked_for(client: Client) -> None:
    result = client.infer("add_sub", pair())
    assert outputs_of(result) == ["OUTPUT0", "OUTPUT1"]
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), COUNT + 1)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), COUNT - 1)


@pytest.mark.parametrize("names", [["OUTPUT1"], ["OUTPUT0"], ["OUTPUT1", "OUTPUT0"]])
def test_asked_outputs_come_in_the_order_asked(client: Client, names: list[str]) -> None:
    result = client.infer("add_sub", pair(), outputs=[Output(name) for name in names])
    assert outputs_of(result) == names
    expected = {"OUTPUT0": COUNT + 1, "OUTPUT1": COUNT - 1}
    for name in names:
        np.testing.assert_array_equal(result.as_numpy(name), expected[name])


def test_each_output_is_binary_or_json_as_it_asks(client: Client) -> None:
    asked = [Output("OUTPUT0", binary_data=False), Output("OUTPUT1", binary_data=True)]
    result = client.infer("add_sub", pair(), outputs=asked)
    assert result.get_output("OUTPUT0")["data"] == (COUNT + 1).ravel().tolist()
    assert result.get_output("OUTPUT1")["parameters"] == {"binary_data_size": 64}
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), COUNT - 1)


@pytest.mark.parametrize(("asked", "binary"), [(None, True), (True, True), (False, False)])
def test_an_output_overrides_the_requests_default(
    server: ServerProcess, asked: bool | None, binary: bool
) -> None:
    output = {"name": "OUTPUT0"} | ({} if asked is None else {"parameters": {"binary_data": asked}})
    answer = server.infer(
        "id_FP32",
        {
            "inputs": [json_input("INPUT0", "FP32", [1, 1], [1.0])],
            "outputs": [output],
            "parameters": {"binary_data_output": True},
        },
    )
    assert ("inference-header-content-length" in answer.headers) is binary
    kind = "application/octet-stream" if binary else "application/json"
    assert answer.headers["content-type"] == kind


def test_json_and_binary_inputs_can_be_mixed(client: Client) -> None:
    ones = np.ones((1, 16), np.float32)
    for first, second in ((True, False), (False, True)):
        inputs = [
            tensor("INPUT0", "FP32", COUNT, first),
            tensor("INPUT1", "FP32", ones, second),
        ]
        result = client.infer("add_sub", inputs)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), COUNT - 1)


def test_inputs_may_come_in_any_order(client: Client) -> None:
    result = client.infer("add_sub", pair()[::-1])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), COUNT - 1)


def test_the_answer_names_model_version_and_request(client: Client) -> None:
    response = client.infer("add_sub", pair(), request_id="my request/1 ✓").get_response()
    assert response["model_name"] == "add_sub"
    assert response["model_version"] == "1"
    assert response["id"] == "my request/1 ✓"


def test_an_answer_without_an_id_has_none(client: Client) -> None:
    assert "id" not in client.infer("add_sub", pair()).get_response()


def test_a_version_can_be_asked_for(client: Client) -> None:
    assert client.infer("add_sub", pair(), "1").get_response()["model_version"] == "1"


def test_a_name_that_needs_quoting_can_be_inferred(client: Client) -> None:
    sent = np.ones((1, 4), np.float32)
    result = client.infer(ODD_NAME, [tensor("INPUT0", "FP32", sent)], "1")
    assert result.get_response()["model_name"] == ODD_NAME
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent)


def test_rows_up_to_the_batch_size_come_back_in_order(client: Client) -> None:
    result = client.infer("add_sub", pair(rows=8))
    expected = np.arange(128, dtype=np.float32).reshape(8, 16) + 1
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), expected)


def test_answers_to_asynchronous_requests_are_their_own(client: Client) -> None:
    sent = [np.full((1, 4), number, np.float32) for number in range(12)]
    pending = [
        client.async_infer("id_FP32", [tensor("INPUT0", "FP32", array)], request_id=str(number))
        for number, array in enumerate(sent)
    ]
    for number, (array, request) in enumerate(zip(sent, pending, strict=True)):
        result = request.get_result()
        assert result.get_response()["id"] == str(number)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_requests_and_answers_can_be_compressed(
    client: Client, algorithm: str, binary: bool
) -> None:
    sent = np.arange(4000, dtype=np.float32).reshape(2, 2000)
    result = client.infer(
        "id_FP32",
        [tensor("INPUT0", "FP32", sent, binary)],
        outputs=[Output("OUTPUT0", binary_data=binary)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent)


@pytest.mark.parametrize(
    ("accepted", "wbits"), [("gzip", 31), ("deflate", 15), ("gzip, deflate, br", 31)]
)
def test_a_compressed_answer_says_so_and_keeps_its_header_length(
    server: ServerProcess, accepted: str, wbits: int
) -> None:
    body = {
        "inputs": [json_input("INPUT0", "FP32", [1, 2000], [1.0] * 2000)],
        "parameters": {"binary_data_output": True},
    }
    answer = server.infer("id_FP32", body, accept_encoding=accepted)
    assert answer.headers["content-encoding"] == accepted.split(",")[0]
    plain = zlib.decompress(answer.body, wbits)
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(plain[:length])["outputs"][0]["shape"] == [1, 2000]
    assert plain[length:] == np.ones(2000, np.float32).tobytes()


def test_an_answer_is_not_compressed_when_the_client_refuses(server: ServerProcess) -> None:
    body = {"inputs": [json_input("INPUT0", "FP32", [1, 2000], [1.0] * 2000)]}
    answer = server.infer("id_FP32", body, accept_encoding="gzip;q=0, identity")
    assert "content-encoding" not in answer.headers
    assert answer.json()["outputs"][0]["shape"] == [1, 2000]


RAW = {"Inference-Header-Content-Length": "0"}


@pytest.mark.parametrize(
    ("model", "sent", "shape"),
    [
        ("id_FP32", np.arange(3, dtype=np.float32), [1, 3]),
        ("vector", np.arange(4, dtype=np.float32), [4]),
        ("labelled", np.arange(4, dtype=np.float32), [1, 4]),
    ],
)
def test_a_raw_body_is_the_one_input(
    server: ServerProcess, model: str, sent: Array, shape: list[int]
) -> None:
    answer = server.request("POST", f"/v2/models/{model}/infer", sent.tobytes(), RAW)
    assert answer.status == 200
    result = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    assert result.get_output("OUTPUT0")["shape"] == shape
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent.reshape(shape))


def test_bodies_made_and_read_without_a_connection_work(server: ServerProcess) -> None:
    body, length = triton.InferenceServerClient.generate_request_body(pair(), request_id="offline")
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = server.request("POST", "/v2/models/add_sub/infer", body, headers)
    result = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), COUNT + 1)


@pytest.mark.parametrize("model", ["id_FP32", "nope"])
@pytest.mark.parametrize("sent", ["abc-123_x.y:z", "0123456789abcdef" * 4])
def test_the_request_id_header_comes_back(server: ServerProcess, model: str, sent: str) -> None:
    body = {"inputs": [json_input("INPUT0", "FP32", [1, 1], [1.0])]}
    assert server.infer(model, body, x_request_id=sent).headers["x-request-id"] == sent


def test_requests_without_an_id_header_get_different_ones(server: ServerProcess) -> None:
    body = {"inputs": [json_input("INPUT0", "FP32", [1, 1], [1.0])]}
    ids = [server.infer("id_FP32", body).headers["x-request-id"] for _ in range(3)]
    ids.append(server.get("/v2").headers["x-request-id"])
    assert len(set(ids)) == 4


def test_custom_parameters_and_query_strings_are_accepted(client: Client) -> None:
    result = client.infer(
        "add_sub", pair(), parameters={"mine": 1, "text": "x"}, query_params={"a": "b c"},
        headers={"X-Custom": "1"}, priority=1,
    )  # fmt: skip
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), COUNT + 1)


def test_unknown_fields_of_the_request_are_ignored(server: ServerProcess) -> None:
    made = json_input("INPUT0", "FP32", [1, 1], [1.0]) | {"more": 1}
    answer = server.infer("id_FP32", {"inputs": [made], "raw_output": False, "x": {"y": []}})
    assert answer.status == 200
