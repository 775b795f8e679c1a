"""Requests and batchers for the tests of this folder."""

import asyncio
import time
from collections.abc import Hashable
from typing import Any

import numpy as np

from inferd.batching.batcher import BatchRunner, DynamicBatcher
from inferd.batching.levels import Levels
from inferd.batching.policy import BatchPolicy
from inferd.batching.queue import QueuedRequest, QueueOptions
from inferd.errors import InferdError
from inferd.observability.statistics import ModelStatistics
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import TensorSpec

Answer = InferenceResponse | InferdError


def queued(
    rows: int = 1,
    key: Hashable = (),
    value: float = 0.0,
    answers: list[Answer] | None = None,
    arrival_ns: int | None = None,
    outputs: tuple[int, ...] | None = None,
    timeout_us: int = 0,
    deadline_ns: int = 0,
    **request: Any,
) -> QueuedRequest:
    """A request of so many rows that all hold `value`; what it is told goes to `answers`."""
    wire = InferenceRequest(
        "m", "", [], id=f"{value:g}", timeout_us=timeout_us, deadline_ns=deadline_ns, **request
    )
    arrays = [np.full((rows, 2), value, np.float32)]
    heard: list[Answer] = [] if answers is None else answers
    arrival = time.perf_counter_ns() if arrival_ns is None else arrival_ns
    return QueuedRequest(wire, arrays, rows, key, outputs, heard.append, arrival)


class Client:
    """Sends requests of distinct values to a batcher and keeps what each is told."""

    def __init__(self, batcher: DynamicBatcher, statistics: ModelStatistics) -> None:
        self.batcher = batcher
        self.statistics = statistics
        self.items: list[QueuedRequest] = []
        self.heard: list[list[Answer]] = []
        self.order: list[int] = []

    def send(self, rows: int = 1, key: Hashable = (), **more: Any) -> int:
        """Queue a request, number it, return its number."""
        number = len(self.items)
        item = queued(rows, key, float(number + 1), **more)
        heard: list[Answer] = []

        def on_done(answer: Answer) -> None:
            heard.append(answer)
            self.order.append(number)

        item.on_done = on_done
        self.items.append(item)
        self.heard.append(heard)
        self.batcher.enqueue(item)
        return number

    def only(self, number: int) -> Answer:
        """The one answer of a request."""
        assert len(self.heard[number]) == 1, f"{len(self.heard[number])} answers"
        return self.heard[number][0]

    def has_own_rows(self, number: int) -> bool:
        """Whether a request was answered with twice its own rows, as `doubled` makes them."""
        answer = self.only(number)
        if not isinstance(answer, InferenceResponse):
            return False
        (tensor,) = answer.outputs
        expected = np.full((self.items[number].rows, 2), 2.0 * (number + 1), np.float32)
        return np.array_equal(tensor.array, expected) and answer.id == f"{number + 1}"

    def counts(self) -> dict[str, int]:
        """Requests by how they ended, as statistics tell it."""
        failures = {reason: n for reason, n in self.statistics.failures.items() if n}
        return {"ok": self.statistics.success.count, **failures}


def client(
    runner: BatchRunner, max_batch_size: int = 8, max_queue_size: int = 100,
    levels: Levels | None = None, **options: Any,
) -> Client:  # fmt: skip
    """A client of a new batcher on the running loop."""
    policy = BatchPolicy(max_batch_size, options.pop("preferred", ()), options.pop("delay_ns", 0))
    statistics = ModelStatistics()
    batcher = DynamicBatcher(
        policy,
        QueueOptions(max_queue_size, **options) if levels is None else levels.of(0),
        (TensorSpec("y", FP32, (-1, 2)),),
        runner,
        statistics,
        asyncio.get_running_loop(),
        "m",
        "3",
        levels,
    )
    return Client(batcher, statistics)


def sizes(batches: list[Any]) -> list[list[int]]:
    """The rows of each request of each batch."""
    return [[item.rows for item in batch.items] for batch in batches]
