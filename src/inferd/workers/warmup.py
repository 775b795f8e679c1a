"""Warms a model up in its worker, before anything is asked of it; a worker that is started again
does so again. It refuses to know where the data come from (`backends/warmup.py`).
"""

from collections.abc import Iterator
from pathlib import Path

from inferd.backends.warmup import warmup_batches
from inferd.config.sequence_tensors import filled_specs
from inferd.errors import InferdError
from inferd.types.tensor import LeftOut
from inferd.workers.messages import Loaded, Start
from inferd.workers.runtime import Job, Runtime


def warm_up(runtime: Runtime, start: Start) -> None:
    """Run what the configuration says; raises what it raises."""
    if not start.config.model_warmup:
        return
    for job in _jobs(runtime.loaded(), start):
        outcomes = _run(runtime, job)
        for outcome in outcomes:
            if isinstance(outcome, InferdError):
                raise outcome


def _jobs(loaded: Loaded, start: Start) -> Iterator[Job]:
    inputs = [line.spec(loaded.max_batch_size > 0) for line in loaded.inputs]
    folder = Path(start.folder) if start.folder else None
    filled = {spec.name for spec in filled_specs(start.config, loaded.max_batch_size > 0)}
    for batch in warmup_batches(
        start.config, folder, inputs, loaded.max_batch_size, loaded.layout, filled
    ):
        arrays = [None if isinstance(array, LeftOut) else array for array in batch.inputs]
        for _ in range(batch.count):
            yield Job("predict", arrays, [1] * batch.rows, [""] * batch.rows)


def _run(runtime: Runtime, job: Job) -> list[object]:
    if not runtime.is_async:
        return [*(runtime.stream(job) if runtime.streams else runtime.run(job))]
    assert runtime.loop is not None
    return runtime.loop.run_until_complete(_arun(runtime, job))


async def _arun(runtime: Runtime, job: Job) -> list[object]:
    if runtime.streams:
        return [part async for part in runtime.astream(job)]
    return [*await runtime.arun(job)]
