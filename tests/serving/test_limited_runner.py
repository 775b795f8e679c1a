"""Models that share a resource: real pools behind one limiter, instances at their gates."""

import asyncio
import gc
import weakref

from batching.requests import Client, client
from fakes import FakeInstance, clock, on_loop, turns
from inferd.batching.rate_limiter import LimitedInstance, RateLimiter
from inferd.serving.instance_pool import InstancePool
from inferd.serving.limited_runner import LimitedRunner, limited
from serving.test_instance_pool import estimated


class Limited:
    """A model on a limiter: its instances, and a client of its batcher."""

    def __init__(
        self, limiter: RateLimiter, needs: int = 1, weight: int = 1, instances: int = 1,
        run_ns: int | None = None,
    ) -> None:  # fmt: skip
        self.instances = [FakeInstance() for _ in range(instances)]
        each = [LimitedInstance({("R", 0): needs}, weight) for _ in self.instances]
        self.pool = InstancePool(list(self.instances), clock(), "m-1", estimated(run_ns))
        self.limits = limiter.join(each)
        (runner,) = limited([self.pool], self.limits)
        assert isinstance(runner, LimitedRunner)
        self.runner = runner
        self.asking: Client = client(runner, max_batch_size=1)
        batcher = self.asking.batcher
        runner.attach(batcher.look, batcher.fail_waiting, batcher.waits)

    def shut(self) -> None:
        for instance in self.instances:
            instance.gate.clear()

    async def close(self) -> None:
        for instance in self.instances:
            instance.gate.set()
        async with asyncio.timeout(10):
            await self.asking.batcher.drain()
        await asyncio.to_thread(self.runner.close)


@on_loop
async def test_a_model_waits_until_another_gives_the_resource_back() -> None:
    limiter = RateLimiter()
    first, second = Limited(limiter), Limited(limiter)
    first.shut()
    number = first.asking.send()
    await turns(2)
    waits = second.asking.send()
    await turns(2)
    assert (first.asking.batcher.running, second.asking.batcher.running) == (1, 0)
    await first.close()
    await second.close()
    assert first.asking.has_own_rows(number)
    assert second.asking.has_own_rows(waits)


@on_loop
async def test_instances_that_are_free_do_not_run_more_than_there_are_resources() -> None:
    model = Limited(RateLimiter({("R", None): 2}), instances=3)
    model.shut()
    for _ in range(3):
        model.asking.send()
    await turns(2)
    assert (model.asking.batcher.running, model.asking.batcher.queue.size) == (2, 1)
    await model.close()
    assert model.asking.counts() == {"ok": 3}


@on_loop
async def test_what_runs_on_the_loop_itself_takes_its_turn_too() -> None:
    limiter = RateLimiter()
    quick, slow = Limited(limiter, run_ns=1000), Limited(limiter)
    slow.shut()
    slow.asking.send()
    await turns(2)
    assert not quick.runner.runs_now(1)
    assert quick.runner.run_now([], 1) is None
    number = quick.asking.send()
    await turns(2)
    assert quick.asking.heard[number] == []
    await slow.close()
    await quick.asking.batcher.drain()
    assert quick.runner.runs_now(1)
    assert quick.asking.has_own_rows(number)
    assert quick.instances[0].threads[0] is not slow.instances[0].threads[0]
    result = quick.runner.run_now([quick.asking.items[0].arrays[0]], 1)
    assert result is not None
    assert result.error is None
    await quick.close()


@on_loop
async def test_one_whose_request_was_cancelled_holds_nobody_up() -> None:
    limiter = RateLimiter()
    runs, gone, waits = Limited(limiter), Limited(limiter), Limited(limiter, weight=5)
    runs.shut()
    for model in (runs, gone, waits):
        model.asking.send()
        await turns(2)
    gone.asking.items[0].cancel()
    await runs.close()
    await waits.close()
    assert waits.asking.has_own_rows(0)
    await gone.close()


@on_loop
async def test_a_model_that_is_gone_is_held_by_nobody() -> None:
    limiter = RateLimiter()
    runs, gone = Limited(limiter), Limited(limiter)
    runs.shut()
    runs.asking.send()
    await turns(2)
    gone.asking.send()
    await turns(2)
    gone.asking.items[0].cancel()
    await gone.close()
    gone.limits.leave()
    left = weakref.ref(gone.runner)
    del gone
    gc.collect()
    assert left() is None
    await runs.close()


@on_loop
async def test_models_are_served_by_their_priority_and_none_is_lost() -> None:
    limiter = RateLimiter()
    models = [Limited(limiter, weight=1), Limited(limiter, weight=3)]
    order: list[int] = []
    models[0].shut()
    for _ in range(20):
        for index, model in enumerate(models):
            item = model.asking.items[model.asking.send()]
            item.on_done = lambda answer, index=index: order.append(index)  # type: ignore[misc]
    await turns(2)
    for model in models:
        await model.close()
    assert sorted(order) == [0] * 20 + [1] * 20
    assert order[:20].count(0) in (14, 15, 16)
