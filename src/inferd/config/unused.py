"""Fields of Triton's that a model's configuration may have and that change nothing here: one table,
each with its reason, for a warning in the log. Pure.

Nothing that would change answers is here: that is refused (`REFUSED` in `model.py`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from inferd.config.model import ModelConfig
from inferd.config.optimization import ModelOptimization


class Unused(NamedTuple):
    """A field, where it says something that is not done, and why it is not."""

    field: str
    said: Callable[[ModelConfig, str], Any]
    """What a configuration, for a backend, says there; false for nothing."""
    why: str


def _optimization(read: Callable[[ModelOptimization], Any]) -> Callable[[ModelConfig, str], Any]:
    return lambda config, _: read(config.optimization) if config.optimization else None


def _of_language_model(name: str) -> Callable[[ModelConfig, str], Any]:
    return lambda config, backend: (
        backend == "llm" and any(getattr(group, name) for group in config.instance_group)
    )


_READS_GRAPH_LEVEL = ("onnx", "onnxruntime")

UNUSED = (
    Unused("runtime", lambda config, _: config.runtime,
           "the backend alone says what runs the model"),
    Unused("cc_model_filenames", lambda config, _: config.cc_model_filenames,
           "files are not chosen by a GPU's compute capability; default_model_filename is served"),
    Unused("metric_tags", lambda config, backend: backend == "llm" and config.metric_tags,
           "metrics of language models have vLLM's labels"),
    Unused("model_metrics", lambda config, _: config.model_metrics.metric_control,
           "histograms have buckets of inferd's own"),
    Unused("instance_group.host_policy",
           lambda config, _: any(group.host_policy for group in config.instance_group),
           "instances are not bound to NUMA nodes or cores; start the server under numactl"),
    Unused("instance_group.secondary_devices",
           lambda config, _: any(group.secondary_devices for group in config.instance_group),
           "nothing here runs on a deep learning accelerator"),
    *(
        Unused(f"instance_group.{name}", _of_language_model(name),
               "a language model has an engine in place of instances")
        for name in ("gpus", "passive", "rate_limiter")
    ),
    Unused("optimization.graph",
           lambda config, backend: config.optimization is not None
           and config.optimization.graph is not None and backend not in _READS_GRAPH_LEVEL,
           "only ONNX Runtime has levels of optimization"),
    Unused("optimization.priority", _optimization(lambda o: o.priority != "PRIORITY_DEFAULT"),
           "models that run at once share cores as the system schedules them"),
    Unused("optimization.cuda", _optimization(lambda o: o.cuda),
           "CUDA graphs and streams are the framework's own affair"),
    Unused("optimization.execution_accelerators", _optimization(lambda o: o.execution_accelerators),
           "models run as their backend runs them; for OpenVINO say backend: openvino"),
    Unused("optimization.gather_kernel_buffer_threshold",
           _optimization(lambda o: o.gather_kernel_buffer_threshold),
           "inputs are joined on the CPU"),
    Unused("optimization.eager_batching", _optimization(lambda o: o.eager_batching),
           "a batch is made when an instance is free"),
)  # fmt: skip
"""Pinned memory is not among them: it is on in every configuration that Triton prints."""


def unused_fields(config: ModelConfig, backend: str) -> Iterator[tuple[str, str]]:
    """Each field that says something in vain, and why."""
    return ((entry.field, entry.why) for entry in UNUSED if entry.said(config, backend))
