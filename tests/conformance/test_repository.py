"""Repository index, load and unload, with and without a configuration in the request."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.models import one
from lifecycle.onnx_models import constant
from lifecycle.process import ServerProcess, wait_until

Client: TypeAlias = triton.InferenceServerClient


@pytest.fixture
def overridden(client: Client) -> Iterator[str]:
    yield "overridden"
    client.load_model("overridden")


def served_versions(client: Client, model: str) -> list[str]:
    return list(client.get_model_metadata(model)["versions"])


def answer_of(client: Client, model: str, version: str = "") -> float:
    return float(client.infer(model, one(), version).as_numpy("OUTPUT0")[0, 0])


def test_the_index_is_an_array_of_name_version_state_and_reason(client: Client) -> None:
    index = client.get_model_repository_index()
    line = next(entry for entry in index if entry["name"] == "add_sub")
    assert line == {"name": "add_sub", "version": "1", "state": "READY", "reason": ""}


def test_the_index_of_the_ready_holds_only_those(server: ServerProcess, client: Client) -> None:
    client.unload_model("switched")
    wait_until(lambda: server.state("switched", "3") == "UNAVAILABLE", "switched is unloaded")
    every = server.request("POST", "/v2/repository/index", {"ready": False}).json()
    ready = server.request("POST", "/v2/repository/index", {"ready": True}).json()
    assert "switched" in {line["name"] for line in every}
    assert "switched" not in {line["name"] for line in ready}
    assert {line["state"] for line in ready} == {"READY"}
    client.load_model("switched")


@pytest.mark.parametrize("body", [b'{"ready":1}', b'{"ready":"yes"}', b"[]", b"{", b"7"])
def test_an_index_request_that_is_wrong_is_400(server: ServerProcess, body: bytes) -> None:
    answer = server.request("POST", "/v2/repository/index", body)
    assert answer.status == 400
    assert answer.error


def test_an_unloaded_model_says_so_until_it_is_loaded(
    client: Client, server: ServerProcess
) -> None:
    client.unload_model("switched")
    assert not client.is_model_ready("switched")
    with pytest.raises(InferenceServerException, match="unknown model: 'switched'") as error:
        client.infer("switched", one())
    assert error.value.status() in ("404", "503")
    wait_until(lambda: server.state("switched", "3") == "UNAVAILABLE", "switched is unloaded")
    assert server.index()["switched", "3"]["reason"] == "unloaded"
    client.load_model("switched")
    assert client.is_model_ready("switched")
    assert answer_of(client, "switched") == 3


def test_unloading_one_model_leaves_the_server_ready(client: Client) -> None:
    client.unload_model("switched")
    assert client.is_server_ready()
    client.load_model("switched")


def test_unloading_takes_dependents_as_an_option(client: Client) -> None:
    client.unload_model("switched", unload_dependents=True)
    client.load_model("switched")


def test_loading_a_loaded_model_keeps_it(client: Client) -> None:
    client.load_model("switched")
    client.load_model("switched")
    assert answer_of(client, "switched") == 3


def test_loading_an_unknown_model_fails_with_tritons_words(client: Client) -> None:
    phrase = "failed to load 'nope', failed to poll from model repository"
    with pytest.raises(InferenceServerException, match=phrase):
        client.load_model("nope")


@pytest.mark.parametrize("size", [16, "16"])
def test_a_configuration_in_the_load_request_overrides_the_models(
    client: Client, overridden: str, size: Any
) -> None:
    client.load_model(overridden, config=json.dumps({"max_batch_size": size}))
    assert client.get_model_config(overridden)["max_batch_size"] == 16


@pytest.mark.parametrize("numbers", [[1, 2], ["1", "2"]])
def test_an_overriding_version_policy_changes_what_is_served(
    client: Client, overridden: str, numbers: list[Any]
) -> None:
    policy = {"version_policy": {"specific": {"versions": numbers}}}
    client.load_model(overridden, config=json.dumps(policy))
    assert served_versions(client, overridden) == ["1", "2"]
    assert [answer_of(client, overridden, v) for v in ("1", "2", "")] == [1, 2, 2]
    config = client.get_model_config(overridden)
    assert config["version_policy"] == {"specific": {"versions": [1, 2]}}


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ({"all": {}}, ["1", "2", "3"]),
        ({"latest": {"num_versions": 2}}, ["2", "3"]),
        ({"latest": {"num_versions": "2"}}, ["2", "3"]),
    ],
)
def test_policies_all_and_latest_can_be_given_with_a_load(
    client: Client, overridden: str, policy: dict[str, Any], versions: list[str]
) -> None:
    client.load_model(overridden, config=json.dumps({"version_policy": policy}))
    assert served_versions(client, overridden) == versions


def test_loading_again_without_a_configuration_takes_the_models_own(client: Client) -> None:
    client.load_model("overridden", config=json.dumps({"max_batch_size": 2}))
    client.load_model("overridden")
    assert client.get_model_config("overridden")["max_batch_size"] == 8


def test_the_configuration_that_the_server_prints_can_be_sent_back(
    client: Client, overridden: str
) -> None:
    config = client.get_model_config(overridden)
    config["max_batch_size"] = 4
    client.load_model(overridden, config=json.dumps(config))
    assert client.get_model_config(overridden) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"max_batch_size":', "config"),
        ('{"max_batch_sizes": 3}', "max_batch_size"),
        ('{"max_batch_size": -1}', "max_batch_size"),
        ('{"name": "other"}', "name"),
        ('{"input": [{"name": "NO", "data_type": "TYPE_FP32", "dims": [1]}]}', "NO"),
        ("[]", "config"),
    ],
)
def test_a_wrong_configuration_is_refused_and_what_serves_goes_on(
    client: Client, overridden: str, config: str, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message):
        client.load_model(overridden, config=config)
    assert answer_of(client, overridden) == 3
    assert client.is_server_ready()


def test_named_repositories_are_not_implemented(server: ServerProcess) -> None:
    answer = server.request("POST", "/v2/repository/main/models/add_sub/load")
    assert answer.status == 501
    assert "repository_name" in answer.error


def test_a_model_in_the_load_request_is_served(client: Client) -> None:
    client.load_model("sent", config="{}", files={"file:2/model.onnx": constant(6)})
    assert served_versions(client, "sent") == ["2"]
    assert answer_of(client, "sent") == 6
    client.unload_model("sent")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"parameters":{"config":7}}', b"[" * 5000])
def test_a_malformed_load_request_is_400(server: ServerProcess, body: bytes) -> None:
    answer = server.request("POST", "/v2/repository/models/switched/load", body)
    assert answer.status == 400
    assert answer.error
