from typing import Any

import pytest

from inferd.config.model import REFUSED, ModelConfig, in_field_names
from inferd.config.scheduling import on_each_gpu
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config

FILE = "config.yaml"


def read(document: object, strict: bool = True) -> ModelConfig:
    return decode_model_config(document, file=FILE, strict=strict)


def refusal(document: object, strict: bool = True) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(document, strict)
    assert caught.value.file == FILE
    return caught.value


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "field", "near"),
    [
        ({"max_batch_sise": 1}, "max_batch_sise", "max_batch_size"),
        ({"dynamic_batching": {"max_queue_delay": 1}}, "dynamic_batching.max_queue_delay",
         "max_queue_delay_microseconds"),
        ({"input": [{"name": "x", "data_type": "TYPE_FP32", "dim": [1]}]}, "input[0].dim", "dims"),
        ({"instance_group": [{"cout": 2}]}, "instance_group[0].cout", "count"),
        ({"version_policy": {"last": {}}}, "version_policy.last", "latest"),
    ],
)  # fmt: skip
def test_an_unknown_field_names_the_nearest(document: object, field: str, near: str) -> None:
    error = refusal(document)
    assert error.field == field
    assert f"did you mean {near}?" in str(error)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"max_batch_size": -1}, "max_batch_size"), ({"max_batch_size": 1.5}, "max_batch_size"),
        ({"max_batch_size": "4"}, "max_batch_size"),
        ({"instance_group": [{"count": 0}]}, "instance_group[0].count"),
        ({"instance_group": [{"count": 1}, {"kind": "KIND_TPU"}]}, "instance_group[1].kind"),
        ({"input": [{"name": "x", "data_type": "FP32", "dims": [1]}]}, "input[0].data_type"),
        ({"input": [{"name": "", "data_type": "TYPE_FP32", "dims": [1]}]}, "input[0].name"),
        ({"output": [{"name": "y", "data_type": "TYPE_FP32"}]}, "output[0].dims"),
        ({"version_policy": {"specific": {"versions": []}}}, "version_policy.specific.versions"),
        ({"version_policy": {"latest": {"num_versions": 0}}}, "version_policy.latest.num_versions"),
        ({"dynamic_batching": {"preferred_batch_size": [0]}},
         "dynamic_batching.preferred_batch_size[0]"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_field(document: object, field: str) -> None:
    error = refusal(document)
    wanted = field.removesuffix("[0]") if "preferred" in field else field
    assert error.field.startswith(wanted)


# -- fields of Triton's that are refused ----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_field_that_cannot_be_left_out_of_account_says_why(name: str) -> None:
    error = refusal({name: {"on": True}})
    assert (error.field, REFUSED[name] in str(error)) == (name, True)
    assert read({name: {}}) == ModelConfig()


def test_what_is_tensorrts_alone_is_named_where_it_stands() -> None:
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": [1]}
    assert refusal({"input": [{**tensor, "is_shape_tensor": True}]}).field == (
        "input.is_shape_tensor"
    )


def test_names_of_the_users_own_are_not_taken_for_fields() -> None:
    mine = {"runtime": "x", "gpus": "1", "camelCase": {"string_value": "y"}}
    assert read({"parameters": mine}).parameters == mine
    assert read({"parameters": mine}, strict=False).parameters == mine
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    for strict in (True, False):
        (warmup,) = read({"model_warmup": [{"inputs": {"reshape": tensor}}]}, strict).model_warmup
        assert list(warmup.inputs) == ["reshape"]


def test_names_of_the_users_own_stay_as_they_are_below_a_field_in_camel_case() -> None:
    step = {"modelName": "n", "inputMap": {"aB": "cD"}, "outputMap": {"eF": "gH"}}
    config = read({"metricTags": {"aB": "c"}, "ensembleScheduling": {"step": [step]}}, strict=False)
    assert config.metric_tags == {"aB": "c"}
    assert config.ensemble_scheduling is not None
    (read_step,) = config.ensemble_scheduling.step
    assert (read_step.input_map, read_step.output_map) == ({"aB": "cD"}, {"eF": "gH"})


@pytest.mark.parametrize("document", [[], "text", 3, None])
def test_what_is_no_mapping_is_refused(document: object) -> None:
    refusal(document)
    refusal(document, strict=False)


# -- as protobuf writes it ------------------------------------------------------------------------


def test_names_in_camel_case_become_tritons() -> None:
    assert in_field_names(
        {"maxBatchSize": 1, "instanceGroup": [{"hostPolicy": "", "count": 2}], "max_batch": 3}
    ) == {"max_batch_size": 1, "instance_group": [{"host_policy": "", "count": 2}], "max_batch": 3}


def test_every_field_can_be_written_in_camel_case_with_numbers_as_text() -> None:
    tensor = {"name": "x", "dataType": "TYPE_FP32", "dims": ["-1", "4"]}
    config = read(
        {
            "name": "m",
            "maxBatchSize": "8",
            "defaultModelFilename": "a.onnx",
            "input": [{**tensor, "format": "FORMAT_NHWC", "dims": ["-1", "4", "3"]}],
            "output": [{**tensor, "labelFilename": "l.txt"}],
            "instanceGroup": [{"kind": "KIND_CPU", "count": "2"}],
            "versionPolicy": {"specific": {"versions": ["1", "3"]}},
            "dynamicBatching": {
                "preferredBatchSize": ["2", 4],
                "preserveOrdering": True,
                "defaultQueuePolicy": {"maxQueueSize": "5", "defaultTimeoutMicroseconds": "7"},
            },
        },
        strict=False,
    )
    assert (config.max_batch_size, config.default_model_filename) == (8, "a.onnx")
    assert (config.input[0].dims, config.input[0].format) == ((-1, 4, 3), "FORMAT_NHWC")
    assert config.output[0].label_filename == "l.txt"
    assert config.instance_count == 2
    assert config.version_policy.specific is not None
    assert config.version_policy.specific.versions == (1, 3)
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.preferred_batch_size == (2, 4)
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (5, 7)


def test_a_warm_up_can_be_written_in_camel_case() -> None:
    tensor = {"dataType": "TYPE_FP32", "dims": ["4"], "zeroData": True}
    document = {"modelWarmup": [{"batchSize": 2, "inputs": {"inputOne": tensor}}]}
    (warmup,) = read(document, strict=False).model_warmup
    assert list(warmup.inputs) == ["inputOne"]
    assert (warmup.batch_size, warmup.inputs["inputOne"].dims) == (2, (4,))


@pytest.mark.parametrize("member", ["string_value", "stringValue"])
def test_a_parameter_is_read_in_either_spelling(member: str) -> None:
    config = read({"parameters": {"intra_op_thread_count": {member: "2"}}}, strict=False)
    assert config.parameter("intra_op_thread_count", "9") == "2"


def test_unknown_fields_are_named_there_too() -> None:
    assert refusal({"maxBatchSise": 1}, strict=False).field == "max_batch_sise"


# -- scheduling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("key", [2, "2"])
def test_levels_with_a_policy_of_their_own_are_named_by_numbers_or_text(
    key: object, strict: bool
) -> None:
    batching = {
        "priority_levels": 3, "default_priority_level": 1,
        "priority_queue_policy": {key: {"timeout_action": "DELAY", "max_queue_size": 4}},
    }  # fmt: skip
    config = read({"dynamic_batching": batching}, strict).dynamic_batching
    assert config is not None
    assert {level: p.max_queue_size for level, p in config.priority_queue_policy.items()} == {2: 4}


DELAY = {"timeout_action": "DELAY"}


@pytest.mark.parametrize(
    ("batching", "field"),
    [
        ({"priority_levels": 3}, "default_priority_level"),
        ({"priority_levels": 3, "default_priority_level": 4}, "default_priority_level"),
        (
            {"priority_levels": 3, "default_priority_level": 3, "priority_queue_policy": {4: {}}},
            "priority_queue_policy",
        ),
        (
            {"priority_levels": 2, "default_priority_level": 1, "preserve_ordering": True},
            "priority_levels",
        ),
        (
            {"preserve_ordering": True, "default_queue_policy": DELAY},
            "default_queue_policy.timeout_action",
        ),
        (
            {
                "priority_levels": 1, "default_priority_level": 1, "preserve_ordering": True,
                "priority_queue_policy": {"1": DELAY},
            },
            "priority_queue_policy.1.timeout_action",
        ),
        ({"priority_queue_policy": {"one": {}}}, "priority_queue_policy"),
        ({"priority_queue_policy": {"1": {"max": 1}}}, "priority_queue_policy.1.max"),
    ],
)  # fmt: skip
def test_priorities_that_cannot_be_are_refused_by_field(
    batching: dict[str, Any], field: str
) -> None:
    error = refusal({"dynamic_batching": batching})
    assert (error.file, error.field) == (FILE, f"dynamic_batching.{field}")


@pytest.mark.parametrize(
    "batching",
    [
        {"default_priority_level": 4, "priority_queue_policy": {9: {}}},
        {"priority_levels": 1, "default_priority_level": 1, "preserve_ordering": True},
        {
            "preserve_ordering": True,
            "default_queue_policy": {**DELAY, "allow_timeout_override": False},
        },
    ],
)
def test_what_triton_takes_without_effect_is_taken(batching: dict[str, Any]) -> None:
    read({"dynamic_batching": batching})


@pytest.mark.parametrize(
    ("group", "field"),
    [
        ({"kind": "KIND_CPU", "gpus": [0]}, "instance_group[1].gpus"),
        ({"kind": "KIND_MODEL", "gpus": [0]}, "instance_group[1].gpus"),
        ({"profile": ["1"]}, "instance_group[1].profile"),
    ],
)
def test_instances_that_can_be_nowhere_are_refused(group: dict[str, Any], field: str) -> None:
    assert refusal({"instance_group": [{}, group]}).field == field


def test_each_gpu_has_a_set_of_instances_of_its_own() -> None:
    groups = [
        {"count": 2, "kind": "KIND_GPU", "gpus": [0, 3]}, {"kind": "KIND_CPU", "passive": True},
        {"kind": "KIND_GPU"}, {"gpus": [1]}, {"kind": "KIND_MODEL"},
    ]  # fmt: skip
    config = read({"instance_group": groups})
    assert [one.device for one in config.instances] == [
        "cuda:0", "cuda:0", "cuda:3", "cuda:3", "cpu", "cuda", "cuda:1", "",
    ]  # fmt: skip
    assert [one.passive for one in config.instances] == [False] * 4 + [True] + [False] * 3
    assert {one.count for one in config.instances} == {1}
    assert (config.instance_count, config.active_count) == (8, 7)
    assert read({"instance_group": [{"passive": True, "count": 2}]}).active_count == 1


@pytest.mark.parametrize("gpus", [0, 1, 3])
def test_kind_gpu_without_gpus_is_all_of_them(gpus: int) -> None:
    said = [
        {"count": 2, "kind": "KIND_GPU"}, {"kind": "KIND_GPU", "gpus": [1]}, {"count": 2},
        {"kind": "KIND_CPU"}, {"kind": "KIND_MODEL"},
    ]  # fmt: skip
    groups = read({"instance_group": said}).instance_group
    placed = on_each_gpu(groups, gpus)
    assert placed[1:] == groups[1:]
    assert placed[0].gpus == tuple(range(gpus))
    assert len(placed[0].instances) == 2 * (gpus or 1)


# -- what a configuration says of itself ----------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "count"), [([], 1), ([{}], 1), ([{"count": 3}], 3), ([{"count": 2}, {}], 3)]
)
def test_instances_are_counted_over_all_groups(groups: list[object], count: int) -> None:
    assert read({"instance_group": groups}).instance_count == count


@pytest.mark.parametrize(
    ("value", "text"),
    [("2", "2"), (2, "2"), ({"string_value": "2"}, "2"), ({}, "9"), (True, "True")],
)
def test_a_parameter_is_text_however_it_is_written(value: object, text: str) -> None:
    assert read({"parameters": {"p": value}}).parameter("p", "9") == text


def test_a_parameter_that_is_not_there_is_its_default() -> None:
    assert ModelConfig().parameter("p") == ""
    assert ModelConfig().parameter("p", "9") == "9"
