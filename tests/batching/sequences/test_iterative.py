"""Iterative sequences: a request is run again until its model has done with it."""

import time

import numpy as np
import pytest

from batching.sequences.asking import CONTROLS, Runner, Talker, talker
from fakes import clock, on_loop, turns
from inferd.batching.batcher import BatchResult
from inferd.errors import BackendError, RequestTimeout
from inferd.types.tensor import Array


class Countdown:
    """A model that runs each request as often as its number says; it tells the number."""

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.flags: list[tuple[int, int, int]] = []

    def finish(self, runner: Runner, index: int = 0) -> None:
        batch, done = runner.running.pop(index)
        runner.free += 1
        values, start, _, end, ids = [array.ravel().tolist() for array in batch.merge()]
        again, answers = [], []
        for place, id in enumerate(ids):
            self.flags.append((id, start[place], end[place]))
            if start[place]:
                self.left[id] = int(values[place])
            self.left[id] -= 1
            if self.left[id]:
                again.append(place)
            else:
                answers.append([values[place]])
        outputs: list[Array] = [np.array(answers, np.float32).reshape(-1, 1)]
        done(batch, BatchResult(outputs, None, 1, 1, reschedule=tuple(again)))

    async def finish_all(self, runner: Runner) -> None:
        await turns(2)
        while runner.running:
            self.finish(runner)
            await turns(2)


def iterative(runner: Runner, **options: object) -> Talker:
    return talker([runner], oldest=True, controls=CONTROLS, iterative=True, **options)  # type: ignore[arg-type]


@on_loop
async def test_it_runs_until_it_is_done_beside_others_and_needs_no_id() -> None:
    runner, model = Runner(), Countdown()
    asking = iterative(runner)
    asking.send(0, value=3)
    asking.send(0, value=1)
    asking.send(0, value=2)
    await model.finish_all(runner)
    assert [len(batch.items) for batch in runner.started] == [3, 2, 1]
    assert asking.order == [1, 2, 0]
    assert [asking.sum(n) for n in range(3)] == [3, 1, 2]
    assert [flags for flags in model.flags if flags[0] == 1] == [(1, 1, 0), (1, 0, 0), (1, 0, 0)]
    assert asking.batcher.table.sequences == {}
    assert asking.counts() == {"ok": 3}


@on_loop
async def test_requests_with_one_id_follow_on_one_another() -> None:
    runner, model = Runner(), Countdown()
    asking = iterative(runner)
    asking.send(1, value=2)
    asking.send(1, value=2)
    asking.send(0, value=1)
    await model.finish_all(runner)
    assert [asking.sum(n) for n in range(3)] == [2, 2, 1]
    assert asking.order == [2, 0, 1]


@on_loop
async def test_a_client_that_leaves_ends_what_would_run_for_ever() -> None:
    runner, model = Runner(), Countdown()
    asking = iterative(runner)
    asking.send(0, value=10**6)
    await turns()
    model.finish(runner)
    assert asking.batcher.waiting == 1
    asking.items[0].cancel()
    await turns(2)
    assert asking.batcher.table.sequences == {}
    assert len(runner.started) == 1

    asking.send(0, value=10**6)
    await turns()
    asking.items[1].cancel()
    model.finish(runner)
    await turns(2)
    assert asking.batcher.table.sequences == {}
    assert len(runner.started) == 2
    assert asking.counts() == {"ok": 0, "CANCELED": 2}


@on_loop
async def test_a_deadline_ends_it_too() -> None:
    runner, model = Runner(), Countdown()
    asking = iterative(runner)
    asking.send(0, value=10**6, deadline_ns=time.perf_counter_ns() + 10**9)
    await turns()
    model.finish(runner)
    runner.free = 0
    await turns()
    await clock().pass_time(2)
    assert isinstance(asking.answer(0), RequestTimeout)
    assert asking.batcher.table.sequences == {}
    await asking.batcher.drain()


@on_loop
async def test_some_fail_and_some_go_on() -> None:
    runner = Runner()
    asking = iterative(runner)
    for _ in range(3):
        asking.send(0)
    await turns()
    batch, done = runner.running.pop()
    runner.free += 1
    ones = np.ones((1, 1), np.float32)
    errors = {1: BackendError("mine")}
    done(batch, BatchResult([ones], None, 1, 1, dict(errors), reschedule=(0,)))
    await turns(2)
    assert asking.order == [1, 2]
    assert str(asking.answer(1)) == "mine"
    runner.finish(outputs=[ones])
    assert asking.sum(0) == 1


@on_loop
async def test_a_model_that_is_not_iterative_cannot_have_it() -> None:
    runner = Runner()
    asking = talker([runner])
    asking.send(1, start=True)
    await turns()
    batch, done = runner.running.pop()
    runner.free += 1
    done(batch, BatchResult([np.ones((0, 1), np.float32)], None, 1, 1, reschedule=(0,)))
    with pytest.raises(BackendError, match="only a request of an iterative sequence"):
        raise asking.answer(0)  # type: ignore[misc]
