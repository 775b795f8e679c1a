"""One loaded version of a model: what it is, its instances, its batcher, its counters.

Loading blocks and runs off the loop (`load_model`); everything else runs on the loop's thread.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inferd.backends.base import Model, ModelDescription, ModelInstance, OpenOptions
from inferd.backends.registry import create_backend
from inferd.batching.batcher import DynamicBatcher, QueueOptions
from inferd.batching.estimate import RunTimeEstimate
from inferd.batching.policy import BatchPolicy
from inferd.batching.queue import OnDone, QueuedRequest
from inferd.config.model import ModelConfig, ModelDynamicBatching, ModelWarmup, WarmupInput
from inferd.errors import ConfigError, InferdError
from inferd.observability.statistics import ModelStatistics
from inferd.serving.instance_pool import InstancePool
from inferd.serving.validation import RequestValidator
from inferd.types.datatype import BYTES, CONFIG_DATATYPES
from inferd.types.inference import InferenceRequest
from inferd.types.signature import tensor_signature
from inferd.types.tensor import Array, TensorSpec

DEFAULT_MAX_QUEUE_SIZE = 1024
"""Requests that may wait for one model where its configuration does not say; Triton: no bound."""

WARMUP_ROUNDS = 3
"""How often each warm-up size is run: the first is never typical."""

WARMUP_LIMIT_NS = 200_000_000
"""The largest batch is left out of the warm-up when one row says that it would take longer."""

LANES_FROM_NS = 2_000_000
"""A model whose single row takes less gains little from lanes."""

_clock_ns = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What it takes to load one version of a model."""

    name: str
    version: int
    path: Path
    backend: str
    config: ModelConfig
    threads: int
    labels: dict[str, tuple[str, ...]]


class ServedModel:
    """One loaded version of a model."""

    def __init__(
        self,
        spec: LoadSpec,
        model: Model,
        instances: list[ModelInstance],
        estimate: RunTimeEstimate,
        lanes: list[ModelInstance],
        lane_estimate: RunTimeEstimate,
        loop: asyncio.AbstractEventLoop,
        load_ns: int,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.version = spec.version
        self.config = spec.config
        self.description: ModelDescription = model.description
        self.outputs = tuple(
            replace(o, labels=spec.labels.get(o.name, o.labels)) for o in model.description.outputs
        )
        self.signature = model.description.signature or tensor_signature(
            model.description.inputs, self.outputs, model.description.max_batch_size > 0
        )
        self.statistics = ModelStatistics()
        self.statistics.load_ns = load_ns
        self.created_s = int(time.time())
        self.instance_count = len(instances)
        self._model = model
        self._validator = RequestValidator(spec.name, model.description)
        self._pool = InstancePool(
            instances,
            loop,
            f"{spec.name}-{spec.version}",
            estimate,
            model.description.steady,
            lanes,
            lane_estimate,
        )
        self.batcher = _batcher(self, self._pool, loop)

    def submit(self, request: InferenceRequest, on_done: OnDone) -> QueuedRequest:
        """Queue a request; `on_done` is called once, on the loop's thread, unless it is cancelled.

        Raises InvalidRequest or Overloaded at once, and then `on_done` is not called.
        """
        arrival_ns = _clock_ns()
        try:
            arrays, rows, key = self._validator.check(request)
            outputs = self._validator.output_indices(request.outputs)
        except InferdError:
            self.statistics.failed("OTHER", _clock_ns() - arrival_ns)
            raise
        item = QueuedRequest(request, arrays, rows, key, outputs, on_done, arrival_ns)
        self.batcher.enqueue(item)
        return item

    def run_now(self, inputs: list[Array], rows: int, arrival_ns: int) -> list[Array] | None:
        """Run `rows` merged requests of one row each, valid for this model; see DynamicBatcher."""
        return self.batcher.run_now(inputs, rows, arrival_ns)

    def runs_now(self) -> bool:
        """Whether `run_now` would run one row at this moment."""
        return self._pool.runs_now(1)

    @property
    def trouble(self) -> str:
        """Why requests would fail now; a model that is loaded has no reason."""
        return ""

    def queue_depth(self) -> int:
        """Requests that wait."""
        return self.batcher.queue.size

    def in_flight(self) -> int:
        """Requests accepted and not answered."""
        return self.batcher.in_flight

    async def drain(self) -> None:
        """Wait until nothing is queued or running. New requests have been stopped."""
        await self.batcher.drain()

    def close(self) -> None:
        """Give the memory back; blocks. Nothing may be queued or running."""
        self._pool.close()
        self._model.close()


def _batcher(
    served: ServedModel, pool: InstancePool, loop: asyncio.AbstractEventLoop
) -> DynamicBatcher:
    batching = served.config.dynamic_batching or ModelDynamicBatching()
    queue = batching.default_queue_policy
    return DynamicBatcher(
        BatchPolicy(
            served.description.max_batch_size,
            batching.preferred_batch_size,
            batching.max_queue_delay_microseconds * 1000,
        ),
        QueueOptions(
            queue.max_queue_size or DEFAULT_MAX_QUEUE_SIZE,
            queue.default_timeout_microseconds,
            queue.allow_timeout_override,
            batching.preserve_ordering,
        ),
        served.outputs,
        pool,
        served.statistics,
        loop,
        served.name,
        str(served.version),
    )


def load_model(spec: LoadSpec, loop: asyncio.AbstractEventLoop) -> ServedModel:
    """Open, make the instances, warm up; blocks, so call it off the loop.

    Raises BackendError or ConfigError; then nothing stays behind.
    """
    start_ns = _clock_ns()
    backend = create_backend(spec.backend)
    model = backend.open(spec.path, spec.config, OpenOptions(spec.threads))
    instances: list[ModelInstance] = []
    lanes: list[ModelInstance] = []
    try:
        _check_batching(spec.config, model.description)
        instances.extend(model.create_instance() for _ in range(spec.config.instance_count))
        estimate = RunTimeEstimate()
        for instance in instances:
            _warm_up(instance, spec, model.description, estimate)
        lane_estimate = RunTimeEstimate()
        if _gains_from_lanes(model.description, len(instances), estimate):
            lanes.extend(model.create_lanes())
            for lane in lanes:
                _warm_up(lane, spec, model.description, lane_estimate)
        return ServedModel(
            spec, model, instances, estimate, lanes, lane_estimate, loop, _clock_ns() - start_ns
        )
    except BaseException:
        for instance in (*instances, *lanes):
            instance.close()
        model.close()
        raise


def _gains_from_lanes(
    description: ModelDescription, instances: int, estimate: RunTimeEstimate
) -> bool:
    """Lanes are chosen by predictions, which a model that is not steady does not keep to; several
    instances run side by side anyhow."""
    row_ns = estimate.predict(1)
    return description.steady and instances == 1 and LANES_FROM_NS <= row_ns < float("inf")


def _check_batching(config: ModelConfig, description: ModelDescription) -> None:
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size if batching else ():
        if size > description.max_batch_size:
            raise ConfigError(
                f"{size} is over max_batch_size {description.max_batch_size}",
                field="dynamic_batching.preferred_batch_size",
            )


def _warm_up(
    instance: ModelInstance,
    spec: LoadSpec,
    description: ModelDescription,
    estimate: RunTimeEstimate,
) -> None:
    """Run what the configuration says (its failure fails the load), or made-up rows (it does not:
    invented values may be out of a model's range)."""
    for warmup in spec.config.model_warmup:
        inputs = [_warmup_array(warmup, s) for s in description.inputs]
        for _ in range(warmup.count):
            _timed_run(instance, inputs, warmup.batch_size or 1, estimate)
    if spec.config.model_warmup:
        return
    sizes = {1, description.max_batch_size or 1}
    try:
        for rows in sorted(sizes):
            if rows > 1 and rows * estimate.predict(1) > WARMUP_LIMIT_NS:
                continue
            inputs = [_zeros(s, rows, description.max_batch_size > 0) for s in description.inputs]
            if sum(array.nbytes for array in inputs) > 64 << 20:
                continue
            for _ in range(WARMUP_ROUNDS):
                _timed_run(instance, inputs, rows, estimate)
    except InferdError:
        return


def _timed_run(
    instance: ModelInstance, inputs: list[Array], rows: int, estimate: RunTimeEstimate
) -> None:
    start_ns = _clock_ns()
    instance.run(inputs)
    estimate.observe(rows, _clock_ns() - start_ns)


def _zeros(spec: TensorSpec, rows: int, batched: bool) -> Array:
    shape = [8 if dim < 0 else dim for dim in spec.shape]
    if batched:
        shape[0] = rows
    fill: object = b"" if spec.datatype is BYTES else 0
    return np.full(shape, fill, dtype=spec.datatype.dtype)


def _warmup_array(warmup: ModelWarmup, spec: TensorSpec) -> Array:
    field = f"model_warmup.inputs.{spec.name}"
    data = warmup.inputs.get(spec.name)
    if data is None:
        raise ConfigError("the warm-up needs every input of the model", field=field)
    if CONFIG_DATATYPES[data.data_type] is not spec.datatype:
        raise ConfigError(
            f"is {data.data_type}, the model expects {spec.datatype.config_name}", field=field
        )
    shape = (warmup.batch_size, *data.dims) if warmup.batch_size else data.dims
    return _warmup_values(data, spec, shape)


def _warmup_values(data: WarmupInput, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if spec.datatype is BYTES:
        return np.full(shape, b"", dtype=object)
    if not data.random_data:
        return np.zeros(shape, spec.datatype.dtype)
    rng = np.random.default_rng(0)
    if spec.datatype.dtype.kind == "f":
        return rng.random(shape).astype(spec.datatype.dtype)
    return rng.integers(0, 2, shape).astype(spec.datatype.dtype)
