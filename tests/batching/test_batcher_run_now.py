"""Requests that came together and are merged already may be run without being queued."""

import numpy as np
import pytest

from batching.requests import client
from fakes import FakeBatchRunner, on_loop, rows_of, turns
from inferd.batching.batcher import BatchResult
from inferd.errors import BackendError


def now_runner(values: list[float] | None = None) -> FakeBatchRunner:
    runner = FakeBatchRunner()
    outputs = None if values is None else [rows_of(*values)]
    runner.now_result = BatchResult(outputs, None, 10, 20)
    return runner


@on_loop
async def test_run_now_returns_merged_outputs_and_counts_each_request() -> None:
    runner = now_runner([1, 2, 3])
    asking = client(runner)
    inputs = [rows_of(1, 2, 3)]
    assert asking.batcher.run_now(inputs, 3, 0) is runner.now_result.outputs  # type: ignore[union-attr]
    assert runner.now_calls == [(inputs, 3)]
    counted = asking.statistics
    assert counted.success.count == 3
    assert (counted.inference_count, counted.execution_count) == (3, 1)
    assert counted.closed == {"available": 1}
    assert sum(counted.request_histogram.counts) == sum(counted.queue_histogram.counts) == 3
    assert counted.compute_infer.count == 3
    assert asking.batcher.in_flight == asking.batcher.running == 0


@on_loop
async def test_run_now_of_as_many_as_fit_is_a_full_batch() -> None:
    asking = client(now_runner([0] * 8))
    assert asking.batcher.run_now([rows_of(*range(8))], 8, 0) is not None
    assert asking.statistics.closed == {"full": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"delay_ns": 1}, {"preferred": (4,)}, {"preserve_ordering": True}, {"max_batch_size": 0},
        {"default_timeout_us": 5},
    ],
)  # fmt: skip
@on_loop
async def test_run_now_leaves_it_to_the_queue_where_the_policy_wants_a_say(
    options: dict[str, object],
) -> None:
    runner = now_runner([1])
    asking = client(runner, **options)  # type: ignore[arg-type]
    assert asking.batcher.run_now([rows_of(1)], 1, 0) is None
    assert runner.now_calls == []


@on_loop
async def test_run_now_does_not_overtake_what_waits() -> None:
    runner = now_runner([1])
    asking = client(runner)
    asking.send()
    assert asking.batcher.run_now([rows_of(1)], 1, 0) is None
    assert runner.now_calls == []
    await runner.finish_all()
    assert asking.batcher.run_now([rows_of(1)], 1, 0) is not None


@on_loop
async def test_run_now_does_not_overtake_retries() -> None:
    runner = now_runner([1])
    asking = client(runner)
    asking.send()
    asking.send()
    await turns()
    runner.fail()
    assert asking.batcher.run_now([rows_of(1)], 1, 0) is None
    await runner.finish_all()


@pytest.mark.parametrize(
    "result",
    [
        None,
        BatchResult(None, BackendError("broken"), 1, 1),
        BatchResult([rows_of(1)], None, 1, 1),
        BatchResult([rows_of(1, 2), rows_of(1, 2, 3)], None, 1, 1),
        BatchResult([np.array(1.0)], None, 1, 1),
    ],
)
@on_loop
async def test_run_now_that_comes_to_nothing_counts_nothing(result: BatchResult | None) -> None:
    runner = FakeBatchRunner()
    runner.now_result = result
    asking = client(runner)
    assert asking.batcher.run_now([rows_of(1, 2)], 2, 0) is None
    assert asking.counts() == {"ok": 0}
    assert asking.statistics.execution_count == 0
