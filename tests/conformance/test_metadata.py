"""Health, metadata and configuration as tritonclient reads them."""

import json
from importlib.metadata import version
from typing import TypeAlias

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.models import ODD_NAME
from lifecycle.process import ServerProcess

Client: TypeAlias = triton.InferenceServerClient


def test_a_server_with_its_models_is_live_and_ready(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def test_server_metadata_names_the_server_and_its_extensions(client: Client) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "inferd"
    assert metadata["version"] == version("inferd")
    assert {
        "classification", "model_repository", "schedule_policy", "model_configuration",
        "binary_tensor_data", "parameters", "statistics", "trace", "logging",
    } <= set(metadata["extensions"])  # fmt: skip


@pytest.mark.parametrize("asked", ["", "1"])
def test_model_metadata_has_the_batch_dimension_first(client: Client, asked: str) -> None:
    assert client.get_model_metadata("add_sub", asked) == {
        "name": "add_sub",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "INPUT0", "datatype": "FP32", "shape": [-1, 16]},
            {"name": "INPUT1", "datatype": "FP32", "shape": [-1, 16]},
        ],
        "outputs": [
            {"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 16]},
            {"name": "OUTPUT1", "datatype": "FP32", "shape": [-1, 16]},
        ],
    }


def test_metadata_of_a_model_without_batching_has_the_models_own_shape(client: Client) -> None:
    assert client.get_model_metadata("vector")["inputs"][0]["shape"] == [4]


def test_metadata_of_an_unknown_model_is_404(client: Client) -> None:
    with pytest.raises(InferenceServerException, match="unknown model: 'nope' is not found") as e:
        client.get_model_metadata("nope")
    assert e.value.status() == "404"


def test_metadata_of_an_unknown_version_is_404(client: Client) -> None:
    with pytest.raises(InferenceServerException, match="'add_sub' version 99 is not found") as e:
        client.get_model_metadata("add_sub", "99")
    assert e.value.status() == "404"


@pytest.mark.parametrize(
    ("model", "asked", "ready"),
    [
        ("add_sub", "", True), ("add_sub", "1", True), ("add_sub", "99", False),
        ("nope", "", False), (ODD_NAME, "", True), (ODD_NAME, "1", True),
    ],
)  # fmt: skip
def test_a_model_is_ready_when_it_answers(
    client: Client, model: str, asked: str, ready: bool
) -> None:
    assert client.is_model_ready(model, asked) is ready


def test_readiness_of_an_unknown_model_is_404(server: ServerProcess) -> None:
    assert server.status("/v2/models/nope/ready") == 404


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_says_both_live_and_ready_or_nothing(server: ServerProcess, path: str) -> None:
    body = server.get(path).body
    assert not body or all(json.loads(body).values())


def test_configuration_is_tritons_message_with_numbers_and_enum_names(client: Client) -> None:
    config = client.get_model_config("add_sub")
    assert config["name"] == "add_sub"
    assert config["platform"] == "onnxruntime_onnx"
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 8
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["input"][0]["name"] == "INPUT0"
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["format"] == "FORMAT_NONE"
    assert config["input"][0]["dims"] == [16]
    assert config["output"][1]["name"] == "OUTPUT1"
    assert config["output"][1]["label_filename"] == ""
    group = config["instance_group"][0]
    assert (group["kind"], group["count"], group["gpus"]) == ("KIND_CPU", 1, [])
    assert config["default_model_filename"] == "model.onnx"
    assert type(config["dynamic_batching"]["max_queue_delay_microseconds"]) is int
    assert config["dynamic_batching"]["default_queue_policy"]["timeout_action"] == "REJECT"


def test_configuration_of_strings_names_them_as_triton_does(client: Client) -> None:
    assert client.get_model_config("id_BYTES")["input"][0]["data_type"] == "TYPE_STRING"


def test_configuration_names_the_label_file(client: Client) -> None:
    assert client.get_model_config("labelled")["output"][0]["label_filename"] == "labels.txt"


def test_configuration_of_a_version_is_the_models(client: Client) -> None:
    assert client.get_model_config("add_sub", "1") == client.get_model_config("add_sub")


def test_configuration_without_batching_has_the_models_own_dims(client: Client) -> None:
    config = client.get_model_config("vector")
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [4]


def test_a_name_that_needs_quoting_works_everywhere(client: Client) -> None:
    assert client.get_model_metadata(ODD_NAME)["name"] == ODD_NAME
    assert client.get_model_config(ODD_NAME)["name"] == ODD_NAME
    assert client.get_inference_statistics(ODD_NAME)["model_stats"][0]["name"] == ODD_NAME


@pytest.mark.parametrize("path", ["/v2/nothing", "/v3", "/v2/models/add_sub/versions/1/x"])
def test_a_path_that_is_not_there_is_404_with_an_error(server: ServerProcess, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 404
    assert path in answer.error


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_a_wrong_method_is_405_with_an_error(server: ServerProcess, method: str) -> None:
    answer = server.request(method, "/v2/models/add_sub")
    assert answer.status == 405
    assert answer.error
    assert "GET" in answer.headers["allow"]


def test_inference_with_get_is_405(server: ServerProcess) -> None:
    answer = server.get("/v2/models/add_sub/infer")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
