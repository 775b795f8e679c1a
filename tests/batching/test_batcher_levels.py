"""The batcher with priorities, and with requests that are put off: who overtakes whom."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import Client, client, queued
from batching.test_batcher_properties import MAX_QUEUE, MAX_ROWS, History, histories
from fakes import FakeBatchRunner, clock, on_loop, turns
from inferd.batching.levels import Levels
from inferd.batching.queue import QueueOptions
from inferd.errors import Overloaded, RequestTimeout

SECOND_US = 10**6
WAITS = QueueOptions(100)
DELAYS = QueueOptions(100, SECOND_US, delay=True)
REFUSES = QueueOptions(100, SECOND_US)


async def busy(levels: Levels, instances: int = 1, **options: Any) -> tuple[Client, Any]:
    """A client whose batcher's instances are all at work, one request each."""
    runner = FakeBatchRunner(instances)
    asking = client(runner, levels=levels, **options)
    for _ in range(instances):
        asking.send()
        await turns()
    return asking, runner


def order(runner: FakeBatchRunner) -> list[list[int]]:
    """The numbers of the requests of each batch."""
    return [[int(item.request.id) - 1 for item in batch.items] for batch in runner.started]


@on_loop
async def test_the_urgent_overtake_and_within_a_level_nobody_does() -> None:
    asking, runner = await busy(Levels(WAITS, 3, 2), max_batch_size=1)
    for priority in (2, 3, 0, 9, 1, 3, 1):
        asking.send(priority=priority)
    await runner.finish_all()
    assert order(runner) == [[0], [5], [7], [1], [3], [4], [2], [6]]
    assert asking.counts() == {"ok": 8}


@on_loop
async def test_a_batch_is_filled_from_the_most_urgent_level_down() -> None:
    asking, runner = await busy(Levels(WAITS, 3, 2), max_batch_size=4)
    for priority in (3, 2, 1, 3, 1):
        asking.send(priority=priority)
    await runner.finish_all()
    assert order(runner) == [[0], [3, 5, 2, 1], [4]]
    assert all(asking.has_own_rows(number) for number in range(6))


@on_loop
async def test_the_urgent_of_another_shape_go_first_too() -> None:
    asking, runner = await busy(Levels(WAITS, 2, 2))
    asking.send(key="old")
    asking.send(key="old")
    asking.send(key="new", priority=1)
    await runner.finish_all()
    assert order(runner) == [[0], [3], [1, 2]]


@on_loop
async def test_no_batch_goes_ahead_of_what_may_be_more_urgent() -> None:
    asking, runner = await busy(Levels(WAITS, 2, 2), max_batch_size=2)
    runner.ahead = True
    for priority in (2, 2, 1):
        asking.send(priority=priority)
        await turns(2)
    assert order(runner) == [[0]]
    runner.ahead = False
    await runner.finish_all()
    assert order(runner) == [[0], [3, 1], [2]]


@on_loop
async def test_a_level_that_is_full_refuses_while_others_have_room() -> None:
    levels = Levels(WAITS, 2, 2, {1: QueueOptions(1)})
    asking, runner = await busy(levels)
    asking.send(priority=1)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size") as refused:
        asking.send(priority=1)
    assert refused.value.retry_after_s >= 1
    asking.send(priority=2)
    assert asking.batcher.queue_depths() == {1: 1, 2: 1}
    await runner.finish_all()
    assert asking.counts() == {"ok": 3, "REJECTED": 1}


@on_loop
async def test_each_level_has_its_own_time() -> None:
    asking, runner = await busy(Levels(REFUSES, 3, 3, {1: WAITS, 2: DELAYS}), max_batch_size=1)
    numbers = {priority: asking.send(priority=priority) for priority in (1, 2, 3)}
    await clock().pass_time(1.1)
    late = asking.only(numbers[3])
    assert isinstance(late, RequestTimeout)
    assert str(late) == "Request timeout expired"
    fresh = asking.send(priority=2)
    await runner.finish_all()
    assert order(runner) == [[0], [numbers[1]], [fresh], [numbers[2]]]
    assert asking.counts() == {"ok": 4, "REJECTED": 1}
    assert (asking.statistics.expired, asking.statistics.delayed) == (1, 1)


@on_loop
async def test_what_is_put_off_is_answered_late_and_in_order() -> None:
    asking, runner = await busy(Levels(DELAYS), max_batch_size=1)
    late = [asking.send(), asking.send()]
    await clock().pass_time(1.1)
    fresh = asking.send()
    await runner.finish_all()
    assert order(runner) == [[0], [fresh], [late[0]], [late[1]]]
    assert asking.counts() == {"ok": 4}
    assert asking.statistics.delayed == 2


@on_loop
async def test_a_request_shortens_its_time_where_it_may() -> None:
    levels = Levels(DELAYS, 2, 1, {2: QueueOptions(9, SECOND_US, allow_timeout_override=False)})
    asking, runner = await busy(levels, max_batch_size=1)
    hasty = asking.send(timeout_us=1000)
    asking.send()
    bound = asking.send(priority=2, timeout_us=1000)
    await clock().pass_time(0.1)
    assert asking.statistics.delayed == 1
    assert asking.heard[bound] == []
    await runner.finish_all()
    assert order(runner) == [[0], [hasty + 1], [hasty], [bound]]


@on_loop
async def test_the_deadline_of_what_is_put_off_still_ends_it() -> None:
    asking, runner = await busy(Levels(DELAYS))
    deadline_ns = queued().arrival_ns + 2 * 10**9
    number = asking.send(deadline_ns=deadline_ns)
    await clock().pass_time(1.1)
    assert asking.heard[number] == []
    await clock().pass_time(3)
    assert isinstance(asking.only(number), RequestTimeout)
    assert asking.batcher.queue.size == 0
    await runner.finish_all()


@on_loop
async def test_what_is_put_off_can_be_cancelled_and_drained() -> None:
    asking, runner = await busy(Levels(DELAYS))
    gone, kept = asking.send(), asking.send()
    await clock().pass_time(1.1)
    asking.items[gone].cancel()
    draining = clock().create_task(asking.batcher.drain())
    await runner.finish_all()
    await draining
    assert asking.heard[gone] == []
    assert asking.has_own_rows(kept)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(histories, st.integers(1, 3), st.data())
@on_loop
async def test_every_request_ends_once_whatever_its_level(
    history: list[tuple[object, ...]], instances: int, data: st.DataObject
) -> None:
    runner = FakeBatchRunner(instances)
    levels = Levels(QueueOptions(4), 3, 2, {1: QueueOptions(4, delay=True)})
    asking = client(runner, MAX_ROWS, levels=levels)
    played = LevelledHistory(asking, runner, data)
    for action in history:
        await played.do(action)
        played.check_always()
    await runner.finish_all()
    played.check_at_the_end()


class LevelledHistory(History):
    """Requests of any priority; what has gone by its time is not refused on level 1."""

    def __init__(self, asking: Client, runner: FakeBatchRunner, data: st.DataObject) -> None:
        super().__init__(asking, runner)
        self.data = data

    async def do(self, action: tuple[object, ...]) -> None:
        if action[0] != "send":
            return await super().do(action)
        _, rows, key, timeout_us, bad = action
        asking, number = self.asking, len(self.asking.items)
        priority = self.data.draw(st.integers(0, 4))
        level = priority if 0 < priority < 4 else 2
        if bad:
            self.bad.add(number)
        depth = asking.batcher.queue_depths()[level]
        try:
            asking.send(rows, key, timeout_us=timeout_us, priority=priority)  # type: ignore[arg-type]
        except Overloaded:
            assert depth == 4
            self.refused.add(number)
        else:
            if timeout_us and level != 1:
                self.hasty.add(number)

    def check_always(self) -> None:
        super().check_always()
        assert max(self.asking.batcher.queue_depths().values()) <= 4


@settings(derandomize=True, deadline=None, max_examples=100)
@given(histories, st.integers(1, 3))
@on_loop
async def test_answers_of_the_one_level_there_may_be_keep_the_order_of_requests(
    history: list[tuple[object, ...]], instances: int
) -> None:
    runner = FakeBatchRunner(instances)
    only = QueueOptions(MAX_QUEUE, preserve_ordering=True)
    asking = client(runner, MAX_ROWS, levels=Levels(only, 1, 1))
    played = History(asking, runner)
    for action in history:
        if action[0] != "cancel":
            await played.do(action)
        assert asking.order == sorted(asking.order)
    await runner.finish_all()
    played.check_at_the_end()
    assert asking.order == sorted(asking.order)
