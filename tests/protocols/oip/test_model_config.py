from pathlib import Path

import pytest

from backends.onnx_models import identity, ragged, write
from fakes import on_loop
from inferd.protocols.oip.model_config import model_config
from inferd.repository.model_config import decode_model_config
from inferd.serving.model_manager import ModelManager

FULL = """
runtime: some.so
metric_tags: {Team: a}
cc_model_filenames: {"7.0": model.onnx}
optimization: {graph: {level: 1}, priority: PRIORITY_MIN, input_pinned_memory: {enable: true}}
model_metrics:
  metric_control: [{metric_identifier: {family: f}, histogram_options: {buckets: [1, 2.5]}}]
max_batch_size: 8
input: [{name: x, data_type: TYPE_FP32, dims: [4], format: FORMAT_NONE}]
output: [{name: y, data_type: TYPE_FP32, dims: [4], label_filename: labels.txt}]
instance_group: [{kind: KIND_CPU, count: 2, host_policy: p}]
version_policy: {specific: {versions: [1]}}
dynamic_batching:
  preferred_batch_size: [4, 8]
  max_queue_delay_microseconds: 100
  preserve_ordering: true
  default_queue_policy: {max_queue_size: 7, default_timeout_microseconds: 9000000}
parameters: {intra_op_thread_count: {string_value: "1"}}
model_warmup: [{batch_size: 2, inputs: {x: {data_type: TYPE_FP32, dims: [4], zero_data: true}}}]
"""

LEVELS = """
instance_group:
- {count: 1, passive: true, host_policy: p, secondary_devices: [{kind: KIND_NVDLA, device_id: 2}]}
- {rate_limiter: {resources: [{name: r, global: true, count: 2}], priority: 3}}
dynamic_batching:
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy: {timeout_action: DELAY}
  priority_queue_policy: {1: {max_queue_size: 5}, 3: {allow_timeout_override: false}}
"""


@pytest.mark.parametrize(
    "config", ["", FULL, LEVELS, "max_batch_size: 0\n"], ids=["none", "full", "levels", "plain"]
)
@on_loop
async def test_what_is_printed_can_be_read_back_and_says_the_same(
    config: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "m", identity(), 1, config)
    (folder / "labels.txt").write_text("a\nb")
    manager = ModelManager((tmp_path,), 1, 1)
    try:
        await manager.load("m")
        printed = model_config(manager.resolve("m"))
        again = decode_model_config(printed, file="printed")
        await manager.load("m", again)
        assert model_config(manager.resolve("m")) == printed
    finally:
        await manager.close()


RAGGED = """
max_batch_size: 8
input: [{name: INPUT, data_type: TYPE_FP32, dims: [-1], allow_ragged_batch: true}]
output: [{name: OUTPUT, data_type: TYPE_FP32, dims: [-1], reshape: {shape: [-1]}}]
batch_input: [{kind: BATCH_ELEMENT_COUNT, target_name: [COUNT], data_type: TYPE_INT32,
               source_input: [INPUT]}]
batch_output: [{target_name: [OUTPUT], source_input: [INPUT]}]
cc_model_filenames: {"7.5": model.plan}
"""


@on_loop
async def test_what_is_said_of_tensors_is_printed(tmp_path: Path) -> None:
    write(tmp_path, "m", ragged(), 1, RAGGED)
    manager = ModelManager((tmp_path,), 1, 1)
    try:
        await manager.load("m")
        printed = model_config(manager.resolve("m"))
        again = decode_model_config(printed, file="printed")
        await manager.load("m", again)
        assert model_config(manager.resolve("m")) == printed
    finally:
        await manager.close()
    (given,), (told,) = printed["input"], printed["output"]
    assert (given["name"], given["dims"], given["allow_ragged_batch"]) == ("INPUT", [-1], True)
    assert told["reshape"] == {"shape": [-1]}
    assert printed["batch_input"] == [
        {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["COUNT"], "data_type": "TYPE_INT32",
         "source_input": ["INPUT"]}
    ]  # fmt: skip
    assert printed["batch_output"] == [
        {"kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "target_name": ["OUTPUT"],
         "source_input": ["INPUT"]}
    ]  # fmt: skip
    assert printed["cc_model_filenames"] == {"7.5": "model.plan"}


@on_loop
async def test_the_configuration_in_force_is_complete(tmp_path: Path) -> None:
    write(tmp_path, "m", identity())
    manager = ModelManager((tmp_path,), 1, 1)
    try:
        await manager.load("m")
        printed = model_config(manager.resolve("m"))
    finally:
        await manager.close()
    assert (printed["name"], printed["backend"]) == ("m", "onnxruntime")
    assert (printed["platform"], printed["max_batch_size"]) == ("onnxruntime_onnx", 64)
    for kind, name in (("input", "x"), ("output", "y")):
        (tensor,) = printed[kind]
        assert (tensor["name"], tensor["data_type"], tensor["dims"]) == (name, "TYPE_FP32", [4])
    assert printed["version_policy"] == {"latest": {"num_versions": 1}}
    (group,) = printed["instance_group"]
    assert (group["name"], group["kind"]) == ("m", "KIND_CPU")
    assert printed["optimization"] == {
        "priority": "PRIORITY_DEFAULT", "gather_kernel_buffer_threshold": 0,
        "eager_batching": False, "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True},
    }  # fmt: skip
    assert printed["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1024


@on_loop
async def test_levels_and_limits_are_printed_as_they_are_in_force(tmp_path: Path) -> None:
    write(tmp_path, "m", identity(), 1, LEVELS)
    manager = ModelManager((tmp_path,), 1, 1)
    try:
        await manager.load("m")
        printed = model_config(manager.resolve("m"))
    finally:
        await manager.close()
    batching = printed["dynamic_batching"]
    assert (batching["priority_levels"], batching["default_priority_level"]) == (3, 2)
    assert batching["priority_queue_policy"] == {
        "1": {
            "timeout_action": "REJECT", "default_timeout_microseconds": 0,
            "allow_timeout_override": True, "max_queue_size": 5,
        },
        "3": {
            "timeout_action": "REJECT", "default_timeout_microseconds": 0,
            "allow_timeout_override": False, "max_queue_size": 1024,
        },
    }  # fmt: skip
    passive, limited = printed["instance_group"]
    assert (passive["passive"], passive["host_policy"]) == (True, "p")
    assert passive["secondary_devices"] == [{"kind": "KIND_NVDLA", "device_id": 2}]
    assert limited["rate_limiter"] == {
        "resources": [{"name": "r", "global": True, "count": 2}], "priority": 3,
    }  # fmt: skip
