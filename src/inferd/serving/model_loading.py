"""A model loaded into this process: opened, its instances made and warmed up.

It blocks, so it is called off the loop.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from inferd.backends.base import Model, ModelDescription, ModelInstance, OpenOptions
from inferd.backends.registry import open_model
from inferd.backends.warmup import warmup_batches, zeros
from inferd.batching.estimate import RunTimeEstimate
from inferd.config.model import ModelConfig
from inferd.config.sequence_tensors import filled_specs
from inferd.errors import ConfigError, InferdError
from inferd.processes.heap import lasting_memory
from inferd.repository.formats import check_content
from inferd.serving.instance_pool import ENOUGH_NS, InstancePool
from inferd.serving.limited_runner import limited
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.served_model import ServedModel
from inferd.types.tensor import Array

WARMUP_ROUNDS = 3
"""How often each warm-up size is run: the first is never typical."""

WARMUP_LIMIT_NS = 200_000_000
"""The largest batch is left out of the warm-up when one row says that it would take longer."""

LANES_FROM_NS = 2_000_000
"""A model whose single row takes less gains little from lanes."""

TRIAL_LIMIT_NS = 50_000_000
"""How long a run need not be longer than to try lanes with."""

ClockNs = Callable[[], int]


def load_model(spec: LoadSpec, loop: asyncio.AbstractEventLoop) -> ServedModel:
    """Open, make the instances, warm up; blocks, so call it off the loop.

    Raises BackendError or ConfigError; then nothing stays behind.
    """
    with lasting_memory():
        return _load(spec, loop)


def _load(spec: LoadSpec, loop: asyncio.AbstractEventLoop) -> ServedModel:
    start_ns = time.perf_counter_ns()
    check_content(spec.path, spec.backend)
    options = OpenOptions(spec.threads, spec.trust)
    model = open_model(spec.backend, spec.path, spec.config, options)
    instances: list[ModelInstance] = []
    lanes: list[ModelInstance] = []
    try:
        check_batching(spec.config, model.description.max_batch_size)
        places = spec.config.instances
        instances.extend(model.create_instance() for _ in places)
        active = [i for i, place in zip(instances, places, strict=True) if not place.passive]
        passive = [i for i, place in zip(instances, places, strict=True) if place.passive]
        estimate = RunTimeEstimate()
        for instance in instances:
            _warm_up(instance, spec, model.description, estimate)
        lane_estimate = RunTimeEstimate()
        sequences = spec.config.sequence_batching is not None
        alone = spec.limits is None and not sequences
        if alone and _gains_from_lanes(model.description, len(active), estimate):
            lanes.extend(model.create_lanes())
            for lane in lanes:
                _warm_up(lane, spec, model.description, lane_estimate)
            if lanes and not _lanes_gain(active[0], lanes, spec, model.description, estimate):
                while lanes:
                    lanes.pop().close()
        description = model.description
        pools = [
            InstancePool(
                together,
                loop,
                f"{spec.name}-{spec.version}",
                estimate,
                description.steady,
                lanes,
                lane_estimate,
            )
            for together in ([[one] for one in active] if sequences else [active])
        ]
        loaded = LoadedModel(
            description=description,
            runners=limited(pools, spec.limits),
            instance_count=len(instances),
            load_ns=time.perf_counter_ns() - start_ns,
            close=partial(_close, model, passive),
            passive=not active,
            max_queue_delay_microseconds=description.max_queue_delay_microseconds,
        )
        return ServedModel(spec, loaded, loop)
    except BaseException:
        for instance in (*instances, *lanes):
            instance.close()
        model.close()
        raise


def _close(model: Model, passive: list[ModelInstance]) -> None:
    for instance in passive:
        instance.close()
    model.close()


def _gains_from_lanes(
    description: ModelDescription, instances: int, estimate: RunTimeEstimate
) -> bool:
    """Lanes are chosen by predictions, which a model that is not steady does not keep to; several
    instances run side by side anyhow."""
    row_ns = estimate.predict(1)
    return description.steady and instances == 1 and LANES_FROM_NS <= row_ns < float("inf")


def _lanes_gain(
    instance: ModelInstance,
    lanes: list[ModelInstance],
    spec: LoadSpec,
    description: ModelDescription,
    estimate: RunTimeEstimate,
    clock_ns: ClockNs = time.perf_counter_ns,
) -> bool:
    """Whether lanes side by side get at least as much done as all cores with one batch after the
    other, at a size that is worth running; True where made-up rows cannot tell."""
    if spec.config.model_warmup or description.has_effects:
        return True
    rows, best_ns = 1, float("inf")
    try:
        while True:
            inputs = _zeros(description, rows)
            runs = (_timed_run(instance, inputs, rows, estimate, clock_ns) for _ in range(2))
            wide_ns = min(runs)
            gains = wide_ns / rows <= RunTimeEstimate.GAIN * best_ns
            best_ns = wide_ns / rows
            if wide_ns >= ENOUGH_NS and (not gains or wide_ns >= TRIAL_LIMIT_NS):
                break
            if 2 * rows > description.max_batch_size:
                break
            rows *= 2
        with ThreadPoolExecutor(len(lanes)) as threads:

            def together() -> int:
                start_ns = clock_ns()
                list(threads.map(lambda lane: lane.run(inputs), lanes))
                return clock_ns() - start_ns

            lanes_ns = min(together() for _ in range(2))
    except InferdError:
        return True
    return len(lanes) * wide_ns >= lanes_ns


def check_batching(config: ModelConfig, max_batch_size: int) -> None:
    """Raises ConfigError for batches that cannot be."""
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size if batching else ():
        if size > max_batch_size:
            raise ConfigError(
                f"{size} is over max_batch_size {max_batch_size}",
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
    filled = {s.name for s in filled_specs(spec.config, description.max_batch_size > 0)}
    for batch in warmup_batches(
        spec.config, spec.folder, description.inputs, description.max_batch_size,
        description.layout, filled,
    ):  # fmt: skip
        for _ in range(batch.count):
            _timed_run(instance, batch.inputs, batch.rows, estimate)
    if spec.config.model_warmup or description.has_effects:
        return
    sizes = {1, description.max_batch_size or 1}
    try:
        for rows in sorted(sizes):
            if rows > 1 and rows * estimate.predict(1) > WARMUP_LIMIT_NS:
                continue
            inputs = _zeros(description, rows)
            if sum(array.nbytes for array in inputs) > 64 << 20:
                continue
            for _ in range(WARMUP_ROUNDS):
                _timed_run(instance, inputs, rows, estimate)
    except InferdError:
        return


def _timed_run(
    instance: ModelInstance,
    inputs: list[Array],
    rows: int,
    estimate: RunTimeEstimate,
    clock_ns: ClockNs = time.perf_counter_ns,
) -> int:
    start_ns = clock_ns()
    instance.run(inputs)
    run_ns = clock_ns() - start_ns
    estimate.observe(rows, run_ns)
    return run_ns


def _zeros(description: ModelDescription, rows: int) -> list[Array]:
    batched = description.max_batch_size > 0
    return zeros(description.inputs, rows, batched, description.layout)
