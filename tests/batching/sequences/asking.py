"""Requests of sequences, and batchers for them, for the tests of this folder."""

import asyncio
import time
from typing import Any

import numpy as np

from fakes import FakeBatchRunner
from inferd.batching.policy import BatchPolicy
from inferd.batching.queue import QueuedRequest
from inferd.batching.sequences.batcher import SequenceBatcher
from inferd.batching.sequences.filling import Filling, State
from inferd.batching.sequences.strategy import Direct, Oldest, Strategy
from inferd.batching.sequences.table import SequenceTable
from inferd.config.sequence_tensors import Control
from inferd.errors import InferdError
from inferd.observability.statistics import ModelStatistics
from inferd.types.datatype import FP32, INT32, UINT64
from inferd.types.inference import InferenceRequest, InferenceResponse, SequenceStep
from inferd.types.tensor import Array, TensorSpec

Answer = InferenceResponse | InferdError

CONTROLS = (
    Control("START", "start", INT32), Control("READY", "ready", INT32),
    Control("END", "end", INT32), Control("CORRID", "id", UINT64),
)  # fmt: skip
SUM = TensorSpec("sum", FP32, (-1, 1))
SECOND_NS = 1_000_000_000


def item_of(
    id: int | str = 1, start: bool = False, end: bool = False, value: float = 0.0, rows: int = 1,
    key: Any = (), arrival_ns: int | None = None, **request: Any,
) -> QueuedRequest:  # fmt: skip
    """A request of one number; what it is told is kept by nobody."""
    step = SequenceStep(id, start, end) if id else None
    wire = InferenceRequest("m", "", [], id=f"{value:g}", sequence=step, **request)
    arrival = time.perf_counter_ns() if arrival_ns is None else arrival_ns
    arrays = [np.full((rows, 1), value, np.float32)]
    return QueuedRequest(wire, arrays, rows, key, None, lambda result: None, arrival)


class Accumulators:
    """A model that keeps a sum for each row between batches, and trusts its control inputs."""

    def __init__(self) -> None:
        self.sums: dict[int, float] = {}
        self.seen: list[list[tuple[int, int, int, int]]] = []

    def __call__(self, inputs: list[Array]) -> list[Array]:
        values, *told = [array.ravel().tolist() for array in inputs]
        rows = list(zip(*told, strict=True))
        self.seen.append(rows)
        for row, (start, ready, _, _) in enumerate(rows):
            if ready:
                self.sums[row] = values[row] + (0 if start else self.sums[row])
        return [np.array([[self.sums.get(row, 0.0)] for row in range(len(rows))], np.float32)]


def accumulate(inputs: list[Array]) -> list[Array]:
    """The model with an implicit state: value, controls, state in; sum, which is the state, out."""
    return [inputs[0] + inputs[-1]]


class Runner(FakeBatchRunner):
    """A FakeBatchRunner of one instance, whose worker may have been started again."""

    restarts = 0


class Talker:
    """Sends requests of sequences and keeps what each is told; values are 2 to the power of their
    number in the sequence, so a sum says which have been added."""

    def __init__(self, batcher: SequenceBatcher) -> None:
        self.batcher = batcher
        self.items: list[QueuedRequest] = []
        self.heard: list[list[Answer]] = []
        self.order: list[int] = []

    def send(
        self, id: int | str, start: bool = False, end: bool = False, value: float = 1.0, **more: Any
    ) -> int:
        number = len(self.items)
        item = item_of(id, start, end, value, **more)
        heard: list[Answer] = []

        def on_done(answer: Answer) -> None:
            heard.append(answer)
            self.order.append(number)

        item.on_done = on_done
        self.batcher.enqueue(item)
        self.items.append(item)
        self.heard.append(heard)
        return number

    def answer(self, number: int) -> Answer:
        """The one answer of a request."""
        assert len(self.heard[number]) == 1, f"{len(self.heard[number])} answers"
        return self.heard[number][0]

    def sum(self, number: int) -> float:
        """The sum that a request was answered with."""
        answer = self.answer(number)
        assert isinstance(answer, InferenceResponse), answer
        return float(answer.outputs[0].array.item())

    def counts(self) -> dict[str, int]:
        """Requests by how they ended, as statistics tell it."""
        statistics = self.batcher._statistics
        failures = {reason: n for reason, n in statistics.failures.items() if n}
        return {"ok": statistics.success.count, **failures}


def talker(
    runners: list[Runner],
    slots: int = 4,
    oldest: bool = False,
    stateful: bool = False,
    controls: tuple[Control, ...] = CONTROLS,
    idle_s: float = 1.0,
    max_waiting: int = 100,
    strategy: Strategy | None = None,
    **options: Any,
) -> Talker:
    """A talker to a new batcher on the running loop; `stateful` has the server keep the sums."""
    states = (State(np.zeros((1, 1), np.float32), 0, SUM),) if stateful else ()
    strategies: list[Strategy] = [
        strategy or (Oldest(BatchPolicy(slots)) if oldest else Direct(slots)) for _ in runners
    ]
    batcher = SequenceBatcher(
        SequenceTable(len(runners), slots, int(idle_s * SECOND_NS), max_waiting),
        strategies,
        Filling(controls, states),
        (SUM,),
        list(runners),
        ModelStatistics(),
        asyncio.get_running_loop(),
        "m",
        "3",
        **options,
    )
    for index, _ in enumerate(runners):
        batcher.listener(index)
    return Talker(batcher)
