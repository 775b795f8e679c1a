"""How a model may be made faster, as its configuration says it, spelled in Triton's field names,
one frozen struct a message. Source: Triton's `model_config.proto`.

This module refuses to know what is done with any of it; much of it is about CUDA (`unused.py`).
"""

from typing import Any, Literal

from msgspec import field

from inferd.config.scheduling import Count, Message, Name


class OptimizationGraph(Message, frozen=True):
    """How far ONNX Runtime rewrites a model: 0 as far as it can, 1 less (no layouts), -1 only what
    is always right, 2 not at all."""

    level: int = 0


class OptimizationCuda(Message, frozen=True):
    """CUDA graphs, and how a GPU is waited for."""

    graphs: bool = False
    busy_wait_events: bool = False
    graph_spec: tuple[dict[str, Any], ...] = ()
    output_copy_stream: bool = False


class Accelerator(Message, frozen=True):
    """One library that runs parts of a model."""

    name: Name
    parameters: dict[str, str] = field(default_factory=dict)


class ExecutionAccelerators(Message, frozen=True):
    """Libraries that run parts of a model, the first that can."""

    gpu_execution_accelerator: tuple[Accelerator, ...] = ()
    cpu_execution_accelerator: tuple[Accelerator, ...] = ()


class PinnedMemoryBuffer(Message, frozen=True):
    """Whether tensors are kept in pinned memory on their way to a GPU."""

    enable: bool = True


class ModelOptimization(Message, frozen=True):
    """What may make a model faster, none of which changes its answers."""

    graph: OptimizationGraph | None = None
    priority: Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"] = "PRIORITY_DEFAULT"
    cuda: OptimizationCuda | None = None
    execution_accelerators: ExecutionAccelerators | None = None
    input_pinned_memory: PinnedMemoryBuffer | None = None
    output_pinned_memory: PinnedMemoryBuffer | None = None
    gather_kernel_buffer_threshold: Count = 0
    eager_batching: bool = False
