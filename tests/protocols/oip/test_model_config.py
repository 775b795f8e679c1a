from pathlib import Path

import pytest

from backends.onnx_models import identity, write
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


@pytest.mark.parametrize("config", ["", FULL, "max_batch_size: 0\n"], ids=["none", "full", "plain"])
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
    assert printed["instance_group"][0]["kind"] == "KIND_CPU"
    assert printed["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1024
