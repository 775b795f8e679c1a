"""What the batcher tells of requests that are traced."""

from typing import Any

from batching.requests import Client, client, queued
from fakes import FakeBatchRunner, FakeTraceSink, clock, on_loop, turns
from inferd.errors import BackendError
from inferd.observability.tracing import Tracing


class Traced:
    """A batcher of which every request is traced."""

    def __init__(self, **options: Any) -> None:
        self.runner = FakeBatchRunner()
        self.asking: Client = client(self.runner, **options)
        self.sink = FakeTraceSink()
        self.tracing = Tracing(self.sink)
        self.asking.batcher.trace = self.tracing.model("m")
        self.tracing.change({"timestamps": True, "rate": 1, "log_frequency": 1})


@on_loop
async def test_each_request_of_a_batch_has_its_times_in_order() -> None:
    traced = Traced()
    for _ in range(2):
        traced.asking.send()
    await traced.runner.finish_all()
    assert [(t.model, t.version, t.request_id) for t in traced.sink.traces] == [
        ("m", 3, "1"), ("m", 3, "2"),
    ]  # fmt: skip
    for item, trace in zip(traced.asking.items, traced.sink.traces, strict=True):
        assert trace.came_ns == item.arrival_ns
        assert trace.compute is not None
        start, input_end, output_start, end = trace.compute
        assert (input_end - start, output_start - input_end) == (10, 20)
        assert trace.came_ns < start < output_start < end == trace.ended_ns
    batch = traced.runner.started[0]
    assert {trace.compute[0] for trace in traced.sink.traces if trace.compute} == {batch.start_ns}


@on_loop
async def test_one_that_is_not_answered_has_no_compute_and_is_traced_once() -> None:
    traced = Traced()
    traced.runner.fails = lambda batch: BackendError("no") if batch.items[0].rows == 2 else None
    traced.asking.send(rows=2)
    traced.asking.send()
    await traced.runner.finish_all()
    failed, answered = sorted(traced.sink.traces, key=lambda trace: trace.request_id)
    assert (failed.request_id, failed.compute) == ("1", None)
    assert failed.came_ns < failed.ended_ns
    assert answered.compute is not None


@on_loop
async def test_those_given_up_or_out_of_time_are_traced() -> None:
    traced = Traced()
    traced.runner.free = 0
    traced.asking.send(timeout_us=1000)
    number = traced.asking.send()
    traced.asking.batcher.cancel(traced.asking.items[number])
    await clock().pass_time(1)
    assert {trace.request_id for trace in traced.sink.traces} == {"1", "2"}
    assert all(trace.compute is None for trace in traced.sink.traces)


@on_loop
async def test_those_given_up_while_they_run_are_traced_once() -> None:
    traced = Traced()
    for _ in range(2):
        traced.asking.send()
    await turns()
    traced.asking.batcher.cancel(traced.asking.items[0])
    await traced.runner.finish_all()
    assert sorted(trace.request_id for trace in traced.sink.traces) == ["1", "2"]


@on_loop
async def test_riders_who_waited_as_one_are_not_taken_for_one_request() -> None:
    traced = Traced()
    together = queued(rows=2)
    together.riders = 2
    traced.asking.batcher.enqueue(together)
    await traced.runner.finish_all()
    assert traced.asking.counts() == {"ok": 2}
    assert traced.sink.traces == []
