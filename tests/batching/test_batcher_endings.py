"""How a request ends when it does not end well: too late, given up, or failed."""

import asyncio
import contextlib
import gc
import time
import weakref

import numpy as np
import pytest

from batching.requests import Answer, client, queued, sizes
from fakes import FakeBatchRunner, clock, on_loop, turns
from inferd.batching.batch import Batch
from inferd.batching.queue import Stage
from inferd.errors import BackendError, InferdError, RequestTimeout
from inferd.types.inference import InferenceResponse

HOUR_S = 3600
HOUR_US = HOUR_S * 10**6


def assert_timed_out(answer: Answer) -> None:
    assert isinstance(answer, RequestTimeout)
    assert str(answer) == "Request timeout expired"


# -- too late -------------------------------------------------------------------------------------


@on_loop
async def test_a_request_that_waits_too_long_is_told_so_and_leaves_the_queue() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, default_timeout_us=2 * HOUR_US)
    asking.send()
    await turns()
    late = asking.send()
    await clock().pass_time(HOUR_S)
    assert asking.heard[late] == []
    await clock().pass_time(HOUR_S)
    assert_timed_out(asking.only(late))
    assert asking.batcher.queue.size == 0
    assert asking.counts() == {"ok": 0, "REJECTED": 1}
    await runner.finish_all()
    assert sizes(runner.started) == [[1]]


@on_loop
async def test_the_queue_timeout_spares_what_runs() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, default_timeout_us=HOUR_US)
    running = asking.send()
    await turns()
    await clock().pass_time(2 * HOUR_S)
    assert asking.heard[running] == []
    await runner.finish_all()
    assert asking.has_own_rows(running)


@on_loop
async def test_a_request_may_ask_for_a_shorter_wait_of_its_own() -> None:
    runner = FakeBatchRunner(instances=0)
    asking = client(runner, default_timeout_us=3 * HOUR_US)
    hasty, patient = asking.send(timeout_us=HOUR_US), asking.send(timeout_us=9 * HOUR_US)
    await clock().pass_time(HOUR_S)
    assert_timed_out(asking.only(hasty))
    assert asking.heard[patient] == []
    await clock().pass_time(2 * HOUR_S)
    assert_timed_out(asking.only(patient))


@pytest.mark.parametrize("instances", [0, 1])
@on_loop
async def test_a_deadline_that_has_passed_ends_the_request_at_the_next_turn(
    instances: int,
) -> None:
    asking = client(FakeBatchRunner(instances))
    late = asking.send(deadline_ns=time.perf_counter_ns() - 1)
    assert asking.heard[late] == [], "never before `enqueue` returns"
    await turns(2)
    assert_timed_out(asking.only(late))
    assert asking.batcher.in_flight == 0


@on_loop
async def test_a_deadline_holds_while_running_and_neighbours_are_answered() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    late = asking.send(deadline_ns=time.perf_counter_ns() + HOUR_S * 10**9)
    neighbour = asking.send()
    await turns()
    await clock().pass_time(HOUR_S + 1)
    assert_timed_out(asking.only(late))
    await runner.finish_all()
    assert_timed_out(asking.only(late))
    assert asking.has_own_rows(neighbour)
    assert asking.counts() == {"ok": 1, "REJECTED": 1}


@on_loop
async def test_an_answer_in_time_stops_the_clock() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, default_timeout_us=HOUR_US)
    number = asking.send(deadline_ns=time.perf_counter_ns() + HOUR_S * 10**9)
    await runner.finish_all()
    await clock().pass_time(2 * HOUR_S)
    assert asking.has_own_rows(number)
    assert asking.counts() == {"ok": 1}


@on_loop
async def test_a_request_that_has_ended_is_not_kept_by_its_timers() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, default_timeout_us=HOUR_US)
    item = queued(deadline_ns=time.perf_counter_ns() + HOUR_S * 10**9)
    rows = weakref.ref(item.arrays[0])
    asking.batcher.enqueue(item)
    del item
    await runner.finish_all()
    runner.started.clear()
    gc.collect()
    assert rows() is None


# -- given up -------------------------------------------------------------------------------------


@on_loop
async def test_cancel_while_queued_takes_the_work_out_at_once() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    gone, stays = asking.send(2), asking.send(3)
    asking.items[gone].cancel()
    assert (asking.batcher.queue.size, asking.batcher.queue.rows) == (1, 3)
    await runner.finish_all()
    assert sizes(runner.started) == [[3]]
    assert asking.heard[gone] == []
    assert asking.has_own_rows(stays)
    assert asking.counts() == {"ok": 1, "CANCELED": 1}
    assert asking.batcher.in_flight == 0


@on_loop
async def test_cancel_while_running_answers_nobody_but_the_neighbours() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    before, gone, after = asking.send(1), asking.send(2), asking.send(3)
    await turns()
    asking.items[gone].cancel()
    assert asking.batcher.in_flight == 2
    await runner.finish_all()
    assert asking.heard[gone] == []
    assert asking.has_own_rows(before)
    assert asking.has_own_rows(after)
    assert asking.counts() == {"ok": 2, "CANCELED": 1}


@on_loop
async def test_cancel_twice_or_after_the_answer_changes_nothing() -> None:
    runner = FakeBatchRunner(instances=1)
    asking = client(runner)
    done = asking.send()
    await runner.finish_all()
    gone = asking.send()
    for number in (done, gone, gone):
        asking.items[number].cancel()
    assert asking.counts() == {"ok": 1, "CANCELED": 1}
    assert asking.batcher.in_flight == 0


@on_loop
async def test_cancel_stops_the_clock() -> None:
    asking = client(FakeBatchRunner(instances=0), default_timeout_us=HOUR_US)
    gone = asking.send()
    asking.items[gone].cancel()
    await clock().pass_time(2 * HOUR_S)
    assert asking.heard[gone] == []
    assert asking.counts() == {"ok": 0, "CANCELED": 1}


# -- failed ---------------------------------------------------------------------------------------


def failing_with(bad: set[int]) -> FakeBatchRunner:
    """A runner that fails every batch with one of the bad requests in it."""

    def fails(batch: Batch) -> InferdError | None:
        found = sorted(bad & {int(item.request.id) - 1 for item in batch.items})
        return BackendError(f"cannot run {found[0]}") if found else None

    runner = FakeBatchRunner()
    runner.fails = fails
    return runner


@pytest.mark.parametrize("bad", [{0}, {3}, {6}, {2, 5}, {0, 1, 2, 3, 4, 5, 6}])
@on_loop
async def test_a_failing_batch_is_halved_until_the_bad_requests_stand_alone(bad: set[int]) -> None:
    runner = failing_with(bad)
    asking = client(runner)
    for _ in range(7):
        asking.send()
    await runner.finish_all()
    for number in range(7):
        if number in bad:
            assert str(asking.only(number)) == f"cannot run {number}"
        else:
            assert asking.has_own_rows(number)
    assert asking.counts() == {"ok": 7 - len(bad), "BACKEND": len(bad)}
    assert asking.batcher.in_flight == 0
    assert asking.statistics.closed["retry"] == len(runner.started) - 1


@on_loop
async def test_a_request_that_fails_alone_is_not_tried_again() -> None:
    runner = failing_with({0})
    asking = client(runner)
    number = asking.send(4)
    await runner.finish_all()
    assert isinstance(asking.only(number), BackendError)
    assert len(runner.started) == 1


@on_loop
async def test_a_failed_batch_that_all_have_left_is_not_tried_again() -> None:
    runner = failing_with({0})
    asking = client(runner)
    asking.send()
    asking.send()
    await turns()
    for item in asking.items:
        item.cancel()
    await runner.finish_all()
    assert len(runner.started) == 1
    assert asking.counts() == {"ok": 0, "CANCELED": 2}


@on_loop
async def test_retries_go_before_what_came_later() -> None:
    runner = failing_with({0})
    asking = client(runner)
    asking.send()
    asking.send()
    await turns()
    asking.send(5)
    await runner.finish_all()
    assert sizes(runner.started) == [[1, 1], [1], [1], [5]]


@on_loop
async def test_drain_waits_for_retries() -> None:
    runner = failing_with({1})
    asking = client(runner)
    asking.send()
    asking.send()
    await turns()
    draining = clock().create_task(asking.batcher.drain())
    runner.finish()
    await turns(2)
    assert not draining.done()
    await runner.finish_all()
    await draining
    assert asking.counts() == {"ok": 1, "BACKEND": 1}


@on_loop
async def test_what_is_to_run_again_for_nobody_is_not_run_and_holds_up_no_drain() -> None:
    runner = failing_with({1})
    asking = client(runner)
    asking.send()
    asking.send()
    await turns()
    runner.finish()
    runner.free = 0
    draining = clock().create_task(asking.batcher.drain())
    await turns(2)
    for item in asking.items:
        assert not draining.done()
        item.cancel()
    await asyncio.wait_for(draining, 5)
    runner.free = 1
    asking.send()
    await runner.finish_all()
    assert sizes(runner.started) == [[1, 1], [1]]


@on_loop
async def test_outputs_without_the_batchs_rows_are_never_shared_out() -> None:
    """A sum over the batch: each request is run by itself in the end."""
    runner = FakeBatchRunner(compute=lambda arrays: [arrays[0].sum(axis=0, keepdims=True)])
    asking = client(runner)
    numbers = [asking.send(), asking.send()]
    await runner.finish_all()
    for number in numbers:
        answer = asking.only(number)
        assert isinstance(answer, InferenceResponse)
        assert np.all(answer.outputs[0].array == number + 1)


@on_loop
async def test_a_model_that_gives_fewer_outputs_than_it_has_loses_no_request() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    number = asking.send()
    await turns(2)
    runner.finish(outputs=[])
    answer = asking.only(number)
    assert isinstance(answer, BackendError)
    assert str(answer) == "the model gave 0 outputs, and has 1"
    assert asking.counts() == {"ok": 0, "BACKEND": 1}


@on_loop
async def test_an_expired_request_is_not_answered_by_a_retry() -> None:
    runner = failing_with({1})
    asking = client(runner)
    late = asking.send(deadline_ns=time.perf_counter_ns() + HOUR_S * 10**9)
    asking.send()
    await turns()
    await clock().pass_time(HOUR_S + 1)
    await runner.finish_all()
    assert_timed_out(asking.only(late))
    assert asking.counts() == {"ok": 0, "REJECTED": 1, "BACKEND": 1}


@on_loop
async def test_a_caller_that_raises_does_not_keep_its_neighbours_from_their_answers() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)

    def raises(answer: Answer) -> None:
        raise RuntimeError("the caller's own fault")

    clumsy = queued(value=9.0)
    clumsy.on_done = raises
    asking.batcher.enqueue(clumsy)
    neighbour = asking.send()
    await turns()
    with contextlib.suppress(RuntimeError):  # where it surfaces is not the point
        runner.finish()
    assert asking.has_own_rows(neighbour)
    assert clumsy.stage is Stage.DONE
    assert asking.batcher.in_flight == 0
