"""The instances of one model version, and the choice of where each batch runs.

A batch that takes some tens of microseconds costs less run on the event loop's thread than handed
to another and back; one that takes longer would hold every other request up. So the pool measures
and chooses: short ones inline, the rest on a thread for each instance.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable

from inferd.backends.base import ModelInstance
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.estimate import RunTimeEstimate
from inferd.errors import BackendError, InferdError
from inferd.types.tensor import Array

Done = Callable[[Batch, BatchResult], None]

INLINE_LIMIT_NS = 300_000
"""Longest predicted run that may hold the event loop."""

HELD_LIMIT_NS = 50_000_000
"""A run that held it for longer than this was the model's last."""

_clock_ns = time.perf_counter_ns


class InstancePool:
    """Runs batches on whichever instance is free; a BatchRunner."""

    def __init__(
        self,
        instances: list[ModelInstance],
        loop: asyncio.AbstractEventLoop,
        name: str,
        estimate: RunTimeEstimate,
        steady: bool = True,
    ) -> None:
        self._instances = instances
        self._free = list(instances)
        self._loop = loop
        self._name = name
        self._estimate = estimate
        self._inline = steady
        self._threads: dict[int, _InstanceThread] = {}

    def available(self) -> bool:
        """Whether an instance is free."""
        return bool(self._free)

    def run(self, batch: Batch, done: Done) -> None:
        """Run a batch on a free instance; see BatchRunner."""
        instance = self._free.pop()
        if self._inline and self._estimate.predict(batch.rows) <= INLINE_LIMIT_NS:
            result = merge_and_execute(instance, batch)
            self._check_held(result)
            self._release(instance, batch, result)
            done(batch, result)
            return
        thread = self._threads.get(id(instance))
        if thread is None:
            thread = self._threads[id(instance)] = _InstanceThread(instance, self._name)
        thread.jobs.put((batch, done, self))

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """Run merged inputs before returning; None when no instance is free or it would hold the
        loop for too long."""
        if not (self._inline and self._free) or self._estimate.predict(rows) > INLINE_LIMIT_NS:
            return None
        start_ns = _clock_ns()
        result = execute(self._free[-1], inputs, start_ns)
        self._check_held(result)
        if result.error is None:
            self._estimate.observe(rows, result.infer_ns)
        return result

    def finish(
        self, instance: ModelInstance, batch: Batch, result: BatchResult, done: Done
    ) -> None:
        """Called by an instance's thread: answer on the loop's thread."""
        self._loop.call_soon_threadsafe(self._finish, instance, batch, result, done)

    def drain_rate(self) -> float:
        """Rows a second when every instance is busy; 0 while unknown."""
        rows = 1 << 5
        predicted = self._estimate.predict(rows)
        if predicted == float("inf") or predicted <= 0:
            return 0.0
        return rows * len(self._instances) * 1e9 / predicted

    def close(self) -> None:
        """End the threads and close the instances; blocks until runs in flight end."""
        for thread in self._threads.values():
            thread.jobs.put(None)
        for thread in self._threads.values():
            thread.join()
        for instance in self._instances:
            instance.close()
        self._instances.clear()
        self._free.clear()

    def _check_held(self, result: BatchResult) -> None:
        """A model that once held the loop for long does not get it again."""
        if result.input_ns + result.infer_ns > HELD_LIMIT_NS:
            self._inline = False

    def _finish(
        self, instance: ModelInstance, batch: Batch, result: BatchResult, done: Done
    ) -> None:
        self._release(instance, batch, result)
        done(batch, result)

    def _release(self, instance: ModelInstance, batch: Batch, result: BatchResult) -> None:
        if self._instances:  # not closed meanwhile
            self._free.append(instance)
        if result.error is None:
            self._estimate.observe(batch.rows, result.input_ns + result.infer_ns)


class _InstanceThread(threading.Thread):
    """Runs one instance's batches one after the other until it is handed None."""

    def __init__(self, instance: ModelInstance, name: str) -> None:
        super().__init__(name=f"inferd-{name}", daemon=True)
        self.jobs: queue.SimpleQueue[tuple[Batch, Done, InstancePool] | None] = queue.SimpleQueue()
        self._instance = instance
        self.start()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            batch, done, pool = job
            pool.finish(self._instance, batch, merge_and_execute(self._instance, batch), done)
            del job, batch, done, pool


def merge_and_execute(instance: ModelInstance, batch: Batch) -> BatchResult:
    """Merge, run, time."""
    start_ns = _clock_ns()
    try:
        inputs = batch.merge()
    except Exception as error:  # memory, most likely: smaller batches may still do
        wrapped = BackendError(f"cannot merge a batch of {batch.rows} rows: {error}")
        return BatchResult(None, wrapped, _clock_ns() - start_ns, 0)
    return execute(instance, inputs, start_ns)


def execute(instance: ModelInstance, inputs: list[Array], start_ns: int) -> BatchResult:
    """Run, time. What a framework raises becomes the result's error, never an exception."""
    merged_ns = _clock_ns()
    try:
        outputs = instance.run(inputs)
    except InferdError as error:
        return BatchResult(None, error, merged_ns - start_ns, _clock_ns() - merged_ns)
    except Exception as error:
        wrapped = BackendError(f"{type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return BatchResult(None, wrapped, merged_ns - start_ns, _clock_ns() - merged_ns)
    return BatchResult(outputs, None, merged_ns - start_ns, _clock_ns() - merged_ns)
