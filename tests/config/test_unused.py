from typing import Any

import pytest

from inferd.config.model import ModelConfig
from inferd.config.unused import UNUSED, unused_fields
from inferd.repository.model_config import decode_model_config


def unused(document: dict[str, Any], backend: str = "onnxruntime") -> list[str]:
    config = decode_model_config(document, file="config.yaml")
    return [field for field, _ in unused_fields(config, backend)]


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "runtime": ({"runtime": "model.py"}, "python"),
    "cc_model_filenames": ({"cc_model_filenames": {"7.0": "a.onnx"}}, "onnxruntime"),
    "metric_tags": ({"metric_tags": {"a": "b"}}, "llm"),
    "model_metrics": (
        {"model_metrics": {"metric_control": [{"metric_identifier": {"family": "f"}}]}}, "torch"
    ),
    "instance_group.host_policy": ({"instance_group": [{}, {"host_policy": "p"}]}, "torch"),
    "instance_group.secondary_devices": (
        {"instance_group": [{}, {"secondary_devices": [{"device_id": 1}]}]}, "torch"
    ),
    "instance_group.gpus": ({"instance_group": [{"gpus": [1]}]}, "llm"),
    "instance_group.passive": ({"instance_group": [{"passive": True}]}, "llm"),
    "instance_group.rate_limiter": ({"instance_group": [{"rate_limiter": {"priority": 1}}]}, "llm"),
    "optimization.graph": ({"optimization": {"graph": {"level": 1}}}, "torch"),
    "optimization.priority": ({"optimization": {"priority": "PRIORITY_MAX"}}, "torch"),
    "optimization.cuda": ({"optimization": {"cuda": {"graphs": True}}}, "torch"),
    "optimization.execution_accelerators": (
        {"optimization": {"execution_accelerators": {
            "gpu_execution_accelerator": [{"name": "tensorrt"}]}}}, "onnxruntime",
    ),
    "optimization.gather_kernel_buffer_threshold": (
        {"optimization": {"gather_kernel_buffer_threshold": 1}}, "torch"
    ),
    "optimization.eager_batching": ({"optimization": {"eager_batching": True}}, "torch"),
}  # fmt: skip


@pytest.mark.parametrize("field", [entry.field for entry in UNUSED])
def test_what_says_something_in_vain_is_told(field: str) -> None:
    document, backend = SAID[field]
    assert unused(document, backend) == [field]


def test_what_says_nothing_or_is_acted_on_is_not() -> None:
    assert list(unused_fields(ModelConfig(), "onnx")) == []
    assert unused({"metric_tags": {"a": "b"}}) == []
    assert unused({"optimization": {"graph": {"level": 1}}}) == []
    printed_by_triton = {
        "priority": "PRIORITY_DEFAULT", "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True}, "gather_kernel_buffer_threshold": 0,
        "eager_batching": False,
    }  # fmt: skip
    assert unused({"optimization": printed_by_triton}) == []
