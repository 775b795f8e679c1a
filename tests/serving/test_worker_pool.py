"""A model's workers, which say here what the test has them say: what runs, and what goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from batching.requests import queued
from fakes import clock, on_loop, turns
from inferd.backends.base import ModelDescription
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest, Stage
from inferd.batching.rate_limiter import LimitedInstance, RateLimiter
from inferd.config.model import ModelConfig
from inferd.config.strict import decode_struct
from inferd.errors import BackendError, InferdError, InvalidRequest, ModelUnavailable
from inferd.serving.asks import MOST_DEEP, Asks
from inferd.serving.ensembles.loading import load_ensemble
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.served_model import ServedModel
from inferd.serving.worker_pool import WorkerPool
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest
from inferd.types.tensor import Tensor, TensorSpec
from inferd.workers.culprits import Culprits
from inferd.workers.memory import SLOTS, Window, pack_inline
from inferd.workers.messages import (
    Answer,
    Ask,
    Cancel,
    Command,
    Done,
    Event,
    Forget,
    Loaded,
    Manage,
    Meter,
    Metered,
    Parked,
    Part,
    Particulars,
    Refused,
    Run,
    TensorLine,
    Took,
    WorkerTerms,
)
from inferd.workers.process import Worker

LINES = (TensorLine("x", "FP32", (2,)),)
SPECS = (TensorSpec("x", FP32, (-1, 2)),)
LOADED = Loaded("fake", "fake", 4, LINES, LINES, (), False, WorkerTerms())


class FakeWorker:
    """A worker without a process."""

    def __init__(self, hear: Callable[[Event], None], ended: Callable[[InferdError], None]) -> None:
        self.hear = hear
        self.end = ended
        self.told: list[Command] = []
        self.closed = False
        self.refuses: InferdError | None = None

    def send(self, command: Command) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.told.append(command)

    def windows(self, slot: int) -> tuple[Window, Window]:
        return Window(-1, slot, False), Window(-1, slot, True)

    async def close(self) -> None:
        self.closed = True

    def runs(self) -> list[int]:
        """The jobs that it was given."""
        return [command.job for command in self.told if isinstance(command, Run)]


class FakePool:
    """A pool of such workers, those that come next as `next` says: they load, fail, or are slow to
    start; behind the last of it they do as the last."""

    def __init__(self, asked: Callable[..., None] = lambda *_: None) -> None:
        self.next = ["loads"]
        self.made: list[FakeWorker] = []
        self.results: list[BatchResult] = []
        self.culprits = Culprits()
        self.pool = WorkerPool("m", lambda: self._start, asked, self.culprits)

    async def open(self, workers: int = 1) -> "FakePool":
        await self.pool.open()
        await self.pool.grow(workers)
        return self

    async def _start(
        self, hear: Callable[[Event], None], ended: Callable[[InferdError], None]
    ) -> Worker:
        how = self.next.pop(0) if len(self.next) > 1 else self.next[0]
        if how == "slow":
            await turns(20)
        worker = FakeWorker(hear, ended)
        self.made.append(worker)
        if how == "fails":
            clock().call_soon(ended, BackendError("no weights"))
        else:
            clock().call_soon(hear, LOADED)
        return cast(Worker, worker)

    def run_alone(self, item: QueuedRequest) -> None:
        (batch,) = Batch([item], item.rows).singles()
        self.pool.run(batch, lambda batch, result: self.results.append(result))


def request() -> InferenceRequest:
    return InferenceRequest("m", "", [Tensor("x", FP32, np.zeros((1, 2), np.float32))])


def served(*pools: FakePool) -> ServedModel:
    """A model that these run, which keeps sessions where there are several."""
    spec = LoadSpec("m", 1, Path(), "python", ModelConfig(), 1, {})
    description = ModelDescription("fake", "fake", 4, SPECS, SPECS)
    loaded = LoadedModel(
        description=description, runners=[each.pool for each in pools],
        instance_count=len(pools), load_ns=0, culprits=pools[0].culprits,
    )  # fmt: skip
    return ServedModel(spec, loaded, clock())


@on_loop
async def test_there_is_trouble_when_no_worker_has_hope_and_not_before() -> None:
    fake = await FakePool().open(2)
    fake.next = ["fails"]
    first, second = fake.made
    first.end(BackendError("it fell"))
    await turns(10)
    assert fake.pool.trouble == ""
    second.end(BackendError("it fell"))
    assert fake.pool.trouble == "", "the second is started again at once"
    await turns(10)
    assert fake.pool.trouble == "no worker can be kept alive: no weights"
    await fake.pool.aclose()


@on_loop
async def test_sessions_go_on_where_there_is_a_worker() -> None:
    lost, well = await FakePool().open(), await FakePool().open()
    model = served(lost, well)
    lost.next = ["fails"]
    lost.made[0].end(BackendError("it fell"))
    await turns(10)
    assert lost.pool.trouble
    assert model.trouble == ""
    tensor = Tensor("x", FP32, np.zeros((1, 2), np.float32))
    refused = 0
    for number in range(8):
        request = InferenceRequest("m", "", [tensor], session=str(number))
        try:
            model.submit(request, lambda answer: None)
        except ModelUnavailable:
            refused += 1
    assert 0 < refused < 8
    await turns(2)
    assert well.made[0].runs()
    well.next = ["fails"]
    well.made[0].end(BackendError("it fell"))
    await turns(10)
    assert "no worker can be kept alive" in model.trouble
    for fake in (lost, well):
        await fake.pool.aclose()


@on_loop
async def test_when_one_worker_fails_to_load_those_that_were_starting_are_closed() -> None:
    fake = FakePool()
    fake.next = ["loads", "fails", "slow"]
    with pytest.raises(BackendError, match=r"^no weights$"):
        await fake.open(3)
    await fake.pool.aclose()
    await turns(30)
    first, _, slow = fake.made
    assert first.closed
    assert slow.closed


@on_loop
async def test_a_suspect_that_fails_alone_and_ends_nothing_is_acquitted() -> None:
    fake = await FakePool().open()
    item = queued()
    fake.culprits.suspect("predict", item.arrays)
    fake.run_alone(item)
    (worker,) = fake.made
    worker.hear(Done(worker.runs()[0], [], {0: BackendError("as it happens")}))
    assert [str(result.error) for result in fake.results] == ["as it happens"]
    assert not fake.culprits.accuse("predict", item.arrays)
    await fake.pool.aclose()


@on_loop
async def test_what_waits_to_run_by_itself_for_nobody_is_not_run() -> None:
    fake = await FakePool().open()
    (worker,) = fake.made
    first, second = queued(), queued()
    fake.run_alone(first)
    fake.run_alone(second)
    second.stage = Stage.DONE
    fake.pool.cancelled(second)
    assert len(fake.results) == 1
    worker.hear(Done(worker.runs()[0], [], {0: BackendError("no")}))
    assert len(fake.results) == 2
    assert len(worker.runs()) == 1
    await fake.pool.aclose()


@on_loop
async def test_a_model_that_looks_at_requests_is_told_which_of_a_batch_nobody_waits_for() -> None:
    fake = await FakePool().open()
    (worker,) = fake.made
    for requests in (False, True):
        fake.pool._form.requests = requests
        first, riders, third = queued(), queued(rows=2), queued()
        riders.riders = 2
        fake.pool.run(Batch([first, riders, third], 4), lambda batch, result: None)
        fake.pool.cancelled(third)
        job = worker.runs()[-1]
        cancels = [command for command in worker.told if isinstance(command, Cancel)]
        assert cancels == ([Cancel(job, 3)] if requests else [])
        worker.hear(Refused(job, BackendError("over")))
    await fake.pool.aclose()


@on_loop
async def test_a_batch_for_which_no_shared_memory_is_left_fails_and_takes_no_other_ones() -> None:
    fake = await FakePool().open()
    (seat,) = fake.pool.seats
    assert len({seat.take_slot() for _ in range(SLOTS)}) == SLOTS
    fake.run_alone(queued())
    (result,) = fake.results
    assert isinstance(result.error, BackendError)
    assert "are in use" in str(result.error)
    assert not seat.jobs
    await fake.pool.aclose()


@pytest.mark.parametrize("close", [False, True])
@on_loop
async def test_what_a_worker_has_asked_is_given_up_when_it_is_gone(close: bool) -> None:
    asked = await FakePool().open()
    model = served(asked)
    asking = await FakePool(partial(Asks(lambda *_: model).heard, "asker")).open()
    x = {"x": pack_inline(FP32, np.zeros((1, 2), np.float32))}
    for number in (1, 2, 3):
        asking.made[0].hear(Ask(number, "m", "predict", x, "", False))
    asking.made[0].hear(Forget(2))
    await turns(2)
    assert asked.made[0].runs()
    assert model.in_flight() == 2
    if close:
        await asking.pool.aclose()
    else:
        asking.made[0].end(BackendError("it fell"))
    assert model.in_flight() == 0
    await asking.pool.aclose()
    await asked.pool.aclose()


LOOP = "asks itself, and its only instance is the one that asks"


@on_loop
async def test_a_model_that_would_wait_for_itself_is_told() -> None:
    fake = FakePool()
    model: list[ServedModel] = []
    fake.pool._asked = partial(Asks(lambda *_: model[0]).heard, "m")
    await fake.open()
    model.append(served(fake))
    worker, x = fake.made[0], {"x": pack_inline(FP32, np.zeros((1, 2), np.float32))}
    model[0].submit(request(), lambda _: None)
    await turns(2)
    worker.hear(Ask(1, "m", "predict", x, "", False))
    (answer,) = [told for told in worker.told if isinstance(told, Answer)]
    assert LOOP in str(answer.error)
    deep = Particulars(depth=MOST_DEEP + 1)
    worker.hear(Ask(2, "m", "predict", x, "", False, particulars=deep))
    answer = [told for told in worker.told if isinstance(told, Answer)][-1]
    assert "have asked one another" in str(answer.error)
    await fake.pool.aclose()


@on_loop
async def test_a_model_that_holds_what_the_one_that_it_asks_needs_is_told() -> None:
    limiter = RateLimiter({("R", None): 2})
    holds, needs = (limiter.join([LimitedInstance({("R", 0): n})]) for n in (1, 2))
    asked = await FakePool().open()
    model = served(asked)
    model.spec = replace(model.spec, limits=needs)
    asking = FakePool(partial(Asks(lambda *_: model).heard, "asker", holds=holds))
    await asking.open()
    ask = Ask(1, "m", "predict", {"x": pack_inline(FP32, np.zeros((1, 2), np.float32))}, "", False)
    asking.made[0].hear(ask)  # none of its requests runs, so it holds nothing
    assert model.in_flight() == 1
    asking.run_alone(queued())
    asking.made[0].hear(ask)
    (answer,) = [told for told in asking.made[0].told if isinstance(told, Answer)]
    assert "model 'asker' asks model 'm' while it holds the resource 'R'" in str(answer.error)
    assert "--rate-limit-resource R:3" in str(answer.error)
    assert model.in_flight() == 1
    await asking.pool.aclose()
    await asked.pool.aclose()


@on_loop
async def test_a_model_that_would_wait_for_itself_within_an_ensemble_is_told() -> None:
    fake = FakePool()
    models: dict[str, ServedModel] = {}
    asks = Asks(lambda name, _: models[name])
    fake.pool._asked = partial(asks.heard, "m")
    await fake.open()
    models["m"] = served(fake)
    step = {"model_name": "m", "input_map": {"x": "in"}, "output_map": {"x": "out"}}
    said: dict[str, object] = {"max_batch_size": 4, "ensemble_scheduling": {"step": [step]}}
    for side, name in (("input", "in"), ("output", "out")):
        said[side] = [{"name": name, "data_type": "TYPE_FP32", "dims": [2]}]
    spec = LoadSpec("e", 1, Path(), "ensemble", decode_struct(said, ModelConfig, file="e"), 1, {})
    models["e"] = load_ensemble(spec, lambda name, _: models[name], clock())
    models["m"].submit(request(), lambda _: None)
    await turns(2)
    worker, x = fake.made[0], {"in": pack_inline(FP32, np.zeros((1, 2), np.float32))}
    worker.hear(Ask(1, "e", "predict", x, "", False))
    (answer,) = [told for told in worker.told if isinstance(told, Answer)]
    assert LOOP in str(answer.error)
    await fake.pool.aclose()


@on_loop
async def test_models_that_ask_one_another_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inferd.serving.asks.CIRCLE_WAIT_S", 0.0)
    one, other = FakePool(), FakePool()
    models: dict[str, ServedModel] = {}
    asks = Asks(lambda name, version: models[name])
    one.pool._asked, other.pool._asked = partial(asks.heard, "a"), partial(asks.heard, "b")
    await one.open()
    await other.open()
    models.update(a=served(one), b=served(other))
    models["a"].name, models["b"].name = "a", "b"
    x = {"x": pack_inline(FP32, np.zeros((1, 2), np.float32))}
    for model in models.values():  # each has its only worker busy
        model.submit(request(), lambda _: None)
    await turns(2)
    one.made[0].hear(Ask(1, "b", "predict", x, "", False))
    other.made[0].hear(Ask(1, "a", "predict", x, "", False))
    await turns(4)
    assert not [told for told in one.made[0].told if isinstance(told, Answer)]
    (answer,) = [told for told in other.made[0].told if isinstance(told, Answer)]
    assert "in a circle" in str(answer.error)
    await one.pool.aclose()
    await other.pool.aclose()


@on_loop
async def test_metrics_go_with_the_worker_that_made_them() -> None:
    asks = Asks(lambda *_: served(fake))
    fake = FakePool(partial(asks.heard, "m"))
    await fake.open(2)
    for number, worker in enumerate(fake.made, 1):
        worker.hear(Meter(1, "seen", "counter", "", {"a": "b"}))
        worker.hear(Metered(1, "increment", number))
    assert b'seen{a="b"} 3.0' in asks.metrics.render()
    fake.made[0].hear(Metered(1, "value", ask=2))
    assert Answer(2, {}, value=3.0) in fake.made[0].told
    fake.made[0].hear(Meter(3, "seen", "gauge", ""))
    assert "is a counter, not a gauge" in str(fake.made[0].told[-1].error)
    fake.made[0].hear(Metered(1, "drop"))
    assert b'seen{a="b"} 3.0' in asks.metrics.render()
    await fake.pool.aclose()
    for worker in fake.made:
        worker.end(BackendError("it fell"))
    assert asks.metrics.render() == b""


@on_loop
async def test_a_job_that_the_worker_refuses_or_that_cannot_be_told_gives_its_place_back() -> None:
    fake = await FakePool().open()
    (worker,) = fake.made
    error = InvalidRequest("cannot be read")
    fake.run_alone(queued())
    worker.hear(Refused(worker.runs()[0], error))
    worker.refuses = error
    fake.run_alone(queued())
    assert [result.error for result in fake.results] == [error, error]
    assert not fake.pool.seats[0].jobs
    assert fake.pool.available()
    await fake.pool.aclose()


@on_loop
async def test_parts_for_nobody_do_not_hold_up_the_others_of_their_job() -> None:
    fake = await FakePool().open()
    (worker,) = fake.made
    gone, there = queued(), queued()
    gone.stage = Stage.DONE
    batch, heard = Batch([gone, there], 2), list[int]()
    batch.on_part = lambda part: heard.append(part.place)
    fake.pool.run(batch, lambda batch, result: None)
    (job,) = worker.runs()
    for request in (0, 1):
        worker.hear(Part(job, [], request=request))
    assert heard == [0, 1]
    assert [told for told in worker.told if isinstance(told, Took)] == [Took(job, 1)]
    worker.hear(Done(job, [], {}))
    await fake.pool.aclose()


@on_loop
async def test_a_wish_that_fails_in_any_way_is_answered() -> None:
    class Broken:
        async def load(self, *_: object) -> None:
            raise OSError("no space left")

        unload = load

    asks = Asks(lambda *_: served(fake))
    asks.control = Broken()
    fake = await FakePool(partial(asks.heard, "m")).open()
    fake.made[0].hear(Manage(7, "load", "other"))
    await turns(3)
    (answer,) = [told for told in fake.made[0].told if isinstance(told, Answer)]
    assert (answer.ask, "no space left" in str(answer.error)) == (7, True)
    await fake.pool.aclose()


@on_loop
async def test_a_worker_whose_jobs_are_answered_later_has_room_but_not_for_a_suspect() -> None:
    fake = await FakePool().open()
    (worker,), results = fake.made, fake.results

    def run() -> None:
        fake.pool.run(Batch([queued()], 1), lambda batch, result: results.append(result))

    for number in (1, 2):
        run()
        assert not fake.pool.available()
        worker.hear(Parked(worker.runs()[-1]))
        assert fake.pool.available(), number
    fake.run_alone(queued())
    assert len(worker.runs()) == 2
    for job in worker.runs():
        worker.hear(Done(job, [], {0: BackendError("no")}))
    assert len(worker.runs()) == 3
    assert not fake.pool.available()
    worker.hear(Done(worker.runs()[-1], [], {0: BackendError("no")}))
    assert fake.pool.available()
    assert len(results) == 3
    run()
    worker.end(BackendError("it fell"))
    assert fake.pool.seats[0].parked == 0
    await fake.pool.aclose()
