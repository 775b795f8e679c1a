"""A queue in front of a model that has a layout: requests of different shapes run together, and
what fails costs nobody else anything."""

import asyncio

import numpy as np

from batching.requests import Answer, queued
from fakes import FakeBatchRunner, on_loop, turns
from inferd.batching.batch import Batch, LaidOutBatch
from inferd.batching.batcher import BatchResult, DynamicBatcher, QueueOptions
from inferd.batching.layout import BatchLayout, InputLayout, MadeInput, OutputLayout
from inferd.batching.policy import BatchPolicy
from inferd.errors import BackendError, InferdError
from inferd.observability.statistics import ModelStatistics
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Array, TensorSpec

RAGGED = BatchLayout(
    True, (InputLayout((-1,), ragged=True),), (MadeInput("BATCH_ELEMENT_COUNT", "INT32", 0),),
    (OutputLayout("y", (-1,), source=0),),
)  # fmt: skip
RESHAPED = BatchLayout(True, (InputLayout((2,), (2, 1)),), (), (OutputLayout("y", (2,), (2, 1)),))


def by_count(inputs: list[Array]) -> list[Array]:
    """Each element times the number of elements of its request."""
    elements, counts = inputs
    return [elements * np.repeat(counts, counts)]


class Asked:
    """A batcher of a layout, and what each of its requests is told."""

    def __init__(self, layout: BatchLayout) -> None:
        self.runner = FakeBatchRunner(0, by_count)
        self.heard: list[list[Answer]] = []
        self.batcher = DynamicBatcher(
            BatchPolicy(8), QueueOptions(100), (TensorSpec("y", FP32, (-1, -1)),), self.runner,
            ModelStatistics(), asyncio.get_running_loop(), "m", "1", layout=layout,
        )  # fmt: skip

    def send(self, width: int) -> None:
        heard: list[Answer] = []
        item = queued(1, value=float(width), answers=heard)
        item.arrays = [np.full((1, width), width, np.float32)]
        self.heard.append(heard)
        self.batcher.enqueue(item)

    async def run_all(self) -> None:
        """Start what waits, and end all of it."""
        await turns(1)
        self.runner.free = 1
        self.batcher.look()
        await turns(1)
        while self.runner.running:
            self.runner.finish()
            await turns(1)


def squares(answers: list[Answer]) -> list[list[float]]:
    (answer,) = answers
    assert isinstance(answer, InferenceResponse)
    rows: list[list[float]] = answer.outputs[0].array.tolist()
    return rows


@on_loop
async def test_requests_of_different_shapes_run_together() -> None:
    asked = Asked(RAGGED)
    for width in (3, 1, 2):
        asked.send(width)
    await asked.run_all()
    (batch,) = asked.runner.started
    assert isinstance(batch, LaidOutBatch)
    assert [squares(heard) for heard in asked.heard] == [[[9, 9, 9]], [[1]], [[4, 4]]]


@on_loop
async def test_a_batch_that_fails_is_halved_until_the_one_at_fault_stands_alone() -> None:
    asked = Asked(RAGGED)

    def fails(batch: Batch) -> InferdError | None:
        return BackendError("five") if 5 in batch.merge()[1] else None

    asked.runner.fails = fails
    for width in (3, 5, 1, 2):
        asked.send(width)
    await asked.run_all()
    (told,) = asked.heard[1]
    assert isinstance(told, BackendError)
    assert [squares(asked.heard[place]) for place in (0, 2, 3)] == [[[9, 9, 9]], [[1]], [[4, 4]]]
    assert len(asked.runner.started) == 5, "four, two, two, one, one"


@on_loop
async def test_a_batch_that_nobody_knows_who_ended_is_run_one_by_one() -> None:
    asked = Asked(RAGGED)
    asked.send(3)
    asked.send(2)
    await turns(1)
    asked.runner.free = 1
    asked.batcher.look()
    await turns(1)
    batch, done = asked.runner.running.pop()
    asked.runner.free += 1
    done(batch, BatchResult(None, BackendError("the worker ended"), 0, 0, again=True))
    await asked.run_all()
    assert [squares(heard) for heard in asked.heard] == [[[9, 9, 9]], [[4, 4]]]
    assert [b.secluded for b in asked.runner.started] == [False, True, True]


@on_loop
async def test_only_rows_that_are_all_one_to_the_model_may_wait_as_one() -> None:
    rows = [np.ones((2, 2), np.float32)]
    ragged, reshaped = Asked(RAGGED).batcher, Asked(RESHAPED).batcher
    assert not ragged.takes_riders
    assert reshaped.takes_riders
    assert ragged.run_now(rows, 2, 0) is None
    assert reshaped.run_now(rows, 2, 0) is None, "what it is given is not what clients sent"
