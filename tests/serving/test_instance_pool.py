import asyncio
import threading
import time

import numpy as np
import pytest

from batching.requests import client, queued
from fakes import FakeInstance, clock, on_loop, rows_of, turns
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.estimate import RunTimeEstimate
from inferd.errors import BackendError, InvalidRequest
from inferd.serving.instance_pool import HELD_LIMIT_NS, INLINE_LIMIT_NS, InstancePool
from inferd.types.tensor import Array

MS = 1_000_000
LOOP_THREAD = threading.main_thread()


def estimated(run_ns: int | None) -> RunTimeEstimate:
    """An estimate for any size up to 1024 rows; None has seen nothing."""
    estimate = RunTimeEstimate()
    if run_ns is not None:
        for power in range(11):
            estimate.observe(1 << power, run_ns)
    return estimate


class Pool:
    """A pool of fake instances and what it has answered."""

    def __init__(
        self,
        run_ns: int | None,
        *instances: FakeInstance,
        estimate: RunTimeEstimate | None = None,
        steady: bool = True,
        lanes: int = 0,
        lane_ns: int | None = None,
    ) -> None:
        self.lanes = [FakeInstance() for _ in range(lanes)]
        self.lane_estimate = estimated(lane_ns)
        self.instances = instances or (FakeInstance(),)
        self.estimate = estimate or estimated(run_ns)
        self.pool = InstancePool(
            list(self.instances), clock(), "m-1", self.estimate, steady, self.lanes,
            self.lane_estimate,
        )  # fmt: skip
        self.done: list[tuple[Batch, BatchResult, threading.Thread]] = []
        self.news = asyncio.Event()

    def run(self, *rows: int, alone: bool = True) -> Batch:
        items = [queued(count, value=float(i + 1)) for i, count in enumerate(rows)]
        batch = Batch(items, sum(rows))
        self.pool.run(batch, self.finished, alone)
        return batch

    def finished(self, batch: Batch, result: BatchResult) -> None:
        self.done.append((batch, result, threading.current_thread()))
        self.news.set()

    async def results(self, count: int) -> list[BatchResult]:
        async with asyncio.timeout(10):
            while len(self.done) < count:
                self.news.clear()
                await self.news.wait()
        return [result for _, result, _ in self.done]

    async def close(self) -> None:
        for instance in (*self.instances, *self.lanes):
            instance.gate.set()
        await asyncio.to_thread(self.pool.close)
        await turns(2)


@on_loop
async def test_a_short_batch_runs_at_once_on_the_loops_own_thread() -> None:
    pool = Pool(INLINE_LIMIT_NS)
    batch = pool.run(1, 2)
    ((finished, result, _),) = pool.done
    assert finished is batch
    assert result.error is None
    assert result.outputs is not None
    assert result.outputs[0][:, 0].tolist() == [2, 4, 4]
    assert pool.instances[0].threads == [LOOP_THREAD]
    assert pool.pool.available()
    await pool.close()


@pytest.mark.parametrize("run_ns", [INLINE_LIMIT_NS + 1, None])
@on_loop
async def test_a_long_or_unknown_batch_runs_on_a_thread_and_is_answered_on_the_loops(
    run_ns: int | None,
) -> None:
    pool = Pool(run_ns)
    pool.instances[0].gate.clear()
    pool.run(1)
    assert pool.done == []
    assert not pool.pool.available()
    pool.instances[0].gate.set()
    (result,) = await pool.results(1)
    assert result.error is None
    assert pool.instances[0].threads[0] is not LOOP_THREAD
    assert pool.done[0][2] is LOOP_THREAD
    assert pool.pool.available()
    await pool.close()


@on_loop
async def test_a_batch_found_short_runs_on_the_loops_thread_next_time() -> None:
    pool = Pool(None)
    pool.run(1)
    await pool.results(1)
    pool.estimate.observe(1, 1)
    pool.run(1)
    assert [thread is LOOP_THREAD for thread in pool.instances[0].threads] == [False, True]
    await pool.close()


class AlwaysShort(RunTimeEstimate):
    """Everything is short enough for the loop's thread."""

    def predict(self, rows: int) -> float:
        return 0.0


class AlwaysLong(RunTimeEstimate):
    """Nothing is ever short enough for the loop's thread."""

    def predict(self, rows: int) -> float:
        return float("inf")


@on_loop
async def test_instances_run_side_by_side_each_on_one_thread_of_its_own() -> None:
    pool = Pool(None, FakeInstance(), FakeInstance(), estimate=AlwaysLong())
    for count in (2, 4, 6):
        for instance in pool.instances:
            instance.gate.clear()
        pool.run(1)
        assert pool.pool.available()
        pool.run(1)
        assert not pool.pool.available()
        for instance in pool.instances:
            instance.gate.set()
        await pool.results(count)
    assert [len(instance.threads) for instance in pool.instances] == [3, 3]
    threads = [set(instance.threads) for instance in pool.instances]
    assert [len(used) for used in threads] == [1, 1]
    assert threads[0] != threads[1]
    await pool.close()


def raising(error: Exception) -> FakeInstance:
    def compute(inputs: list[Array]) -> list[Array]:
        raise error

    return FakeInstance(compute)


@pytest.mark.parametrize("run_ns", [1, None], ids=["inline", "thread"])
@on_loop
async def test_what_a_framework_raises_becomes_a_backend_error(run_ns: int | None) -> None:
    cause = ZeroDivisionError("by zero")
    pool = Pool(run_ns, raising(cause))
    pool.run(1)
    (result,) = await pool.results(1)
    assert isinstance(result.error, BackendError)
    assert str(result.error) == "ZeroDivisionError: by zero"
    assert result.error.__cause__ is cause
    assert result.outputs is None
    assert pool.pool.available(), "the instance is free again"
    await pool.close()


@pytest.mark.parametrize("run_ns", [1, None], ids=["inline", "thread"])
@on_loop
async def test_our_own_errors_are_kept(run_ns: int | None) -> None:
    error = InvalidRequest("a bad value")
    pool = Pool(run_ns, raising(error))
    pool.run(1)
    (result,) = await pool.results(1)
    assert result.error is error
    await pool.close()


@pytest.mark.parametrize("run_ns", [1, None], ids=["inline", "thread"])
@on_loop
async def test_a_batch_that_cannot_be_merged_is_an_error_and_the_pool_goes_on(
    run_ns: int | None,
) -> None:
    """Out of memory, for one: what waits for the batch must hear of it."""
    pool = Pool(run_ns)
    items = [queued(1), queued(1)]
    items[1].arrays = [np.zeros((1, 3, 3), np.float32)]
    pool.pool.run(Batch(items, 2), pool.finished)
    async with asyncio.timeout(1):
        (result,) = await pool.results(1)
    assert isinstance(result.error, BackendError)
    assert pool.pool.available()
    await pool.close()


# -- run_now --------------------------------------------------------------------------------------


@on_loop
async def test_run_now_runs_what_is_short() -> None:
    pool = Pool(INLINE_LIMIT_NS)
    result = pool.pool.run_now([rows_of(1, 2)], 2)
    assert result is not None
    assert result.outputs is not None
    assert result.outputs[0].ravel().tolist() == [2, 4]
    assert pool.pool.available()
    await pool.close()


@pytest.mark.parametrize("run_ns", [INLINE_LIMIT_NS + 1, None])
@on_loop
async def test_run_now_refuses_what_would_hold_the_loop(run_ns: int | None) -> None:
    pool = Pool(run_ns)
    assert pool.pool.run_now([rows_of(1)], 1) is None
    assert pool.instances[0].threads == []
    await pool.close()


@on_loop
async def test_a_model_whose_run_time_hangs_on_values_never_holds_the_loop() -> None:
    pool = Pool(1, steady=False)
    assert pool.pool.run_now([rows_of(1)], 1) is None
    pool.run(1)
    await pool.results(1)
    assert pool.instances[0].threads[0] is not LOOP_THREAD
    await pool.close()


@pytest.mark.parametrize("now", [True, False])
@on_loop
async def test_a_model_that_held_the_loop_for_long_does_not_get_it_again(now: bool) -> None:
    def long(inputs: list[Array]) -> list[Array]:
        end_ns = time.perf_counter_ns() + HELD_LIMIT_NS
        while time.perf_counter_ns() <= end_ns:
            pass
        return inputs

    pool = Pool(1, FakeInstance(long), estimate=AlwaysShort())
    if now:
        assert pool.pool.run_now([rows_of(1)], 1) is not None
    else:
        pool.run(1)
    assert pool.instances[0].threads == [LOOP_THREAD]
    assert pool.pool.run_now([rows_of(1)], 1) is None
    pool.run(1)
    await pool.results(1 if now else 2)
    assert pool.instances[0].threads[1] is not LOOP_THREAD
    await pool.close()


@on_loop
async def test_run_now_needs_a_free_instance() -> None:
    pool = Pool(None)
    pool.instances[0].gate.clear()
    pool.run(64)
    for power in range(11):
        pool.estimate.observe(1 << power, 1)
    assert pool.pool.run_now([rows_of(1)], 1) is None
    pool.instances[0].gate.set()
    await pool.results(1)
    assert pool.pool.run_now([rows_of(1)], 1) is not None
    await pool.close()


@on_loop
async def test_run_now_tells_errors_as_results() -> None:
    pool = Pool(1, raising(ValueError("x")))
    result = pool.pool.run_now([rows_of(1)], 1)
    assert result is not None
    assert isinstance(result.error, BackendError)
    await pool.close()


@on_loop
async def test_one_batch_may_wait_behind_one_that_runs() -> None:
    pool = Pool(2 * MS)
    assert not pool.pool.available_ahead(1), "there is nothing to wait behind"
    pool.instances[0].gate.clear()
    pool.run(1)
    assert not pool.pool.available()
    assert pool.pool.available_ahead(1)
    pool.run(2)
    assert not pool.pool.available_ahead(1), "one is enough"
    pool.instances[0].gate.set()
    await pool.results(1)
    if len(pool.done) == 1:
        assert not pool.pool.available()
    await pool.results(2)
    assert [batch.rows for batch, _, _ in pool.done] == [1, 2]
    assert pool.pool.available()
    assert len(pool.pool._free) == 1
    await pool.close()


@on_loop
async def test_nothing_waits_behind_a_long_run_nor_behind_all_cores_where_there_are_lanes() -> None:
    long = Pool(6 * MS)
    long.instances[0].gate.clear()
    long.run(1)
    assert not long.pool.available_ahead(1)
    unsteady = Pool(2 * MS, steady=False)
    unsteady.instances[0].gate.clear()
    unsteady.run(1)
    assert not unsteady.pool.available_ahead(1)
    laned = Pool(2 * MS, lanes=2, lane_ns=3 * MS)
    laned.instances[0].gate.clear()
    laned.run(1)
    assert not laned.pool.available_ahead(1)
    laned.instances[0].gate.set()
    await laned.results(1)
    for lane in laned.lanes:
        lane.gate.clear()
    for _ in range(2):
        laned.run(1, alone=False)
    assert not laned.pool.available()
    for _ in range(2):
        assert laned.pool.available_ahead(1)
        laned.run(1, alone=False)
    assert not laned.pool.available_ahead(1)
    for lane in laned.lanes:
        lane.gate.set()
    await laned.results(5)
    assert [len(lane.threads) for lane in laned.lanes] == [2, 2]
    assert laned.pool.available()
    for pool in (long, unsteady, laned):
        await pool.close()


# -- lanes ----------------------------------------------------------------------------------------


@on_loop
async def test_a_lone_batch_runs_on_all_cores() -> None:
    pool = Pool(10 * MS, lanes=2, lane_ns=16 * MS)
    assert pool.pool.enough(1) == 0
    pool.instances[0].gate.clear()
    pool.run(1)
    assert not pool.pool.available(), "lanes use the same cores"
    pool.instances[0].gate.set()
    await pool.results(1)
    assert len(pool.instances[0].threads) == 1
    assert pool.pool.available()
    await pool.close()


@on_loop
async def test_several_are_shared_between_the_lanes_side_by_side() -> None:
    pool = Pool(20 * MS, lanes=2, lane_ns=16 * MS)
    for lane in pool.lanes:
        lane.gate.clear()
    assert pool.pool.enough(2) == 1
    pool.run(1, alone=False)
    assert pool.pool.available()
    assert pool.pool.enough(1) == 1
    pool.run(1)
    assert not pool.pool.available()
    for lane in pool.lanes:
        lane.gate.set()
    await pool.results(2)
    assert [len(lane.threads) for lane in pool.lanes] == [1, 1]
    assert pool.instances[0].threads == []
    assert pool.pool.available()
    await pool.close()


@on_loop
async def test_while_a_lane_runs_all_cores_are_not_given_to_another() -> None:
    pool = Pool(10 * MS, lanes=2, lane_ns=16 * MS)
    pool.lanes[1].gate.clear()
    pool.run(1, alone=False)
    pool.run(1)
    await pool.results(1)
    pool.lanes[1].gate.set()
    await pool.results(2)
    assert pool.instances[0].threads == []
    await pool.close()


@on_loop
async def test_a_queue_in_front_of_busy_lanes_hands_over_full_batches_only() -> None:
    pool = Pool(4 * MS, lanes=2, lane_ns=3 * MS)
    for lane in pool.lanes:
        lane.gate.clear()
    asking = client(pool.pool, max_batch_size=4)
    for rows in (4, 4):
        asking.send(rows)
    await turns(2)
    assert not pool.pool.available()
    asking.send(3)
    await turns(2)
    assert asking.batcher.queue.rows == 3, "one more may come"
    asking.send(1)
    await turns(2)
    assert asking.batcher.queue.rows == 0
    for lane in pool.lanes:
        lane.gate.set()
    await asking.batcher.drain()
    assert all(asking.has_own_rows(number) for number in range(4))
    assert [len(lane.threads) for lane in pool.lanes] in ([2, 1], [1, 2])
    await pool.close()


@on_loop
async def test_lanes_learn_by_themselves_how_much_is_enough() -> None:
    pool = Pool(10 * MS, lanes=2, lane_ns=None)
    for rows, run_ns in ((1, 16 * MS), (2, 32 * MS), (4, 64 * MS)):
        pool.lane_estimate.observe(rows, run_ns)
    assert pool.pool.enough(64) == 0, "all cores would do it in 10 ms"
    pool.lanes[1].gate.clear()
    pool.run(1, alone=False)
    assert pool.pool.enough(64) == 2
    pool.lanes[1].gate.set()
    await pool.results(1)
    assert pool.estimate.predict(1) == 10 * MS
    assert pool.lane_estimate.predict(1) < MS
    await pool.close()


@on_loop
async def test_without_lanes_no_more_rows_run_together_than_it_helps() -> None:
    pool = Pool(None)
    assert pool.pool.enough(64) == 0
    for rows in (1, 2, 4, 8):
        pool.estimate.observe(rows, rows * 10 * MS)
    assert pool.pool.enough(64) == 2
    short = Pool(INLINE_LIMIT_NS)
    assert short.pool.enough(64) == 0
    unsteady = Pool(None, estimate=pool.estimate, steady=False)
    assert unsteady.pool.enough(64) == 0, "what ran says nothing of what will"
    for made in (pool, short, unsteady):
        await made.close()


@on_loop
async def test_with_lanes_the_drain_rate_is_theirs_and_close_closes_them() -> None:
    pool = Pool(None, lanes=2, lane_ns=16 * MS)
    assert pool.pool.drain_rate() == pytest.approx(2 * 32 / 0.016)
    await pool.close()
    assert all(lane.closed for lane in pool.lanes)


# -- the rest -------------------------------------------------------------------------------------


@on_loop
async def test_drain_rate_is_rows_a_second_of_all_instances() -> None:
    pool = Pool(16_000_000, FakeInstance(), FakeInstance())
    assert pool.pool.drain_rate() == pytest.approx(2 * 32 / 0.016)
    await pool.close()
    unknown = Pool(None)
    assert unknown.pool.drain_rate() == 0.0
    await unknown.close()


@on_loop
async def test_close_waits_for_what_runs_and_closes_every_instance() -> None:
    pool = Pool(None, FakeInstance(), FakeInstance())
    pool.run(1)
    await pool.close()
    assert len(pool.done) == 1
    assert all(instance.closed for instance in pool.instances)
    threads = [thread for instance in pool.instances for thread in instance.threads]
    assert not any(thread.is_alive() for thread in threads)
