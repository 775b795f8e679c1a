import json
from typing import Any

import pytest

from inferd.config.model import ModelConfig as Config
from inferd.config.model import ModelInput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import ConfigError
from inferd.workers.triton.model_config import (
    ModelConfig,
    completed,
    get_input_config_by_name,
    triton_config,
    using_decoupled_model_transaction_policy,
)

IN = {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}


def given(**said: Any) -> ModelConfig:
    return ModelConfig(json.dumps({**triton_config(Config(), "m", "model.py"), **said}))


def test_a_plain_configuration_is_printed_as_triton_does() -> None:
    config = Config(
        input=(ModelInput(name="x", data_type="TYPE_FP32", dims=(4,)),),
        parameters={"a": 1, "b": {"string_value": "c"}},
        timeout_secs=3.0,
    )
    said = triton_config(config, "m", "model.py")
    assert said["max_batch_size"] == 0
    assert get_input_config_by_name(said, "x")["dims"] == [4]
    assert said["parameters"] == {"a": {"string_value": "1"}, "b": {"string_value": "c"}}
    assert said["instance_group"][0]["name"] == "m"
    assert said["version_policy"] == {"latest": {"num_versions": 1}}
    assert not {"dynamic_batching", "timeout_secs", "model_transaction_policy"} & {*said}
    assert not using_decoupled_model_transaction_policy(said)
    assert json.loads(json.dumps(said)) == said


def test_what_a_model_adds() -> None:
    config = given()
    config.add_input({**IN, "optional": True})
    config.add_output({**IN, "name": "y"})
    config.set_max_batch_size(4)
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": True})
    told = completed(Config(), config.as_dict())
    assert told.max_batch_size == 4
    assert told.input[0].optional
    assert told.output[0].name == "y"
    assert told.model_transaction_policy.decoupled


def test_what_is_there_may_be_said_again() -> None:
    config = given(input=[{**IN, "dims": []}])
    config.add_input(IN)
    config.add_input(IN)
    assert config.as_dict()["input"] == [IN]


@pytest.mark.parametrize(
    ("call", "argument", "said"),
    [
        ("add_input", {"name": "x", "dims": [4]}, "input 'x' .* is missing 'data_type'"),
        ("add_input", {**IN, "more": 1}, "contains property other than 'name'"),
        ("add_output", {**IN, "optional": True}, "'data_type' and 'dims'"),
        ("add_input", {**IN, "data_type": "TYPE_INT8"}, "the model expects data_type TYPE_INT8"),
        ("add_input", {**IN, "dims": [5]}, r"dims \[5\] but .* specifies dims \[4\]"),
        ("set_max_batch_size", 2, "max_batch_size 8"),
        ("set_model_transaction_policy", {"decoupled": False}, "already set to 'True'"),
        ("set_model_transaction_policy", {"other": 1}, "other than 'decoupled'"),
    ],
)
def test_what_contradicts_the_configuration(call: str, argument: Any, said: str) -> None:
    policy = {"decoupled": True}
    config = given(input=[IN], max_batch_size=8, model_transaction_policy=policy)
    with pytest.raises(ValueError, match=said):
        getattr(config, call)(argument)


def test_a_model_of_sequences_is_not_batched_otherwise() -> None:
    with pytest.raises(ValueError, match="sequence_batching"):
        given(sequence_batching={}).set_dynamic_batching()


def test_what_is_no_configuration() -> None:
    config = given()
    config.add_input({**IN, "data_type": "TYPE_NONE"})
    with pytest.raises(ConfigError, match="auto_complete_config"):
        completed(Config(), config.as_dict())


def test_an_instance_is_of_the_kind_that_its_group_says() -> None:
    groups = (ModelInstanceGroup(gpus=(1,)), ModelInstanceGroup(name="mine", kind="KIND_MODEL"))
    said = triton_config(Config(instance_group=groups), "m", "model.py")["instance_group"]
    assert [(group["name"], group["kind"]) for group in said] == [
        ("m_0", "KIND_GPU"), ("mine", "KIND_MODEL"),
    ]  # fmt: skip
