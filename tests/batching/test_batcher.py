import asyncio

import pytest

from batching.requests import client, queued, sizes
from fakes import FakeBatchRunner, clock, on_loop, turns
from inferd.batching.queue import QueueOptions, Stage
from inferd.errors import Overloaded
from inferd.types.inference import InferenceResponse


@on_loop
async def test_what_comes_in_one_turn_is_one_batch() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    for rows in (1, 2, 3):
        asking.send(rows)
    assert not runner.started, "nothing runs before the turn ends"
    await turns()
    assert sizes(runner.started) == [[1, 2, 3]]


@on_loop
async def test_what_waits_while_the_only_instance_is_busy_becomes_one_batch() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    asking.send()
    await turns()
    for _ in range(3):
        asking.send()
        await turns()
    assert sizes(runner.started) == [[1]]
    runner.finish()
    await turns()
    assert sizes(runner.started) == [[1], [1, 1, 1]]
    assert runner.started[1].rows == 3


@on_loop
async def test_a_full_batch_goes_ahead_and_no_other_does() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, max_batch_size=4)
    asking.send()
    await turns(2)
    runner.ahead = True
    for _ in range(3):
        asking.send()
    await turns(2)
    assert [batch.rows for batch in runner.started] == [1], "another could still come"
    asking.send(2)
    await turns(2)
    assert [batch.rows for batch in runner.started] == [1, 3]
    runner.ahead = False
    asking.send(4)
    await turns(2)
    assert [batch.rows for batch in runner.started] == [1, 3]
    await runner.finish_all()
    assert [batch.rows for batch in runner.started] == [1, 3, 2, 4]
    assert all(asking.has_own_rows(number) for number in range(6))


@on_loop
async def test_a_turn_has_one_dispatch_however_many_come() -> None:
    runner = FakeBatchRunner()
    asked: list[bool] = []

    class Counting(FakeBatchRunner):
        def available(self) -> bool:
            asked.append(True)
            return False

    asking = client(Counting())
    for _ in range(5):
        asking.send()
    await turns(2)
    assert len(asked) == 1
    asking.send()
    await turns(2)
    assert len(asked) == 2
    assert not runner.started


@on_loop
async def test_free_instances_share_what_waits_and_none_is_used_twice() -> None:
    runner = FakeBatchRunner(instances=2)
    asking = client(runner, max_batch_size=2)
    for _ in range(5):
        asking.send()
    await turns()
    assert sizes(runner.started) == [[1, 1], [1, 1]]
    runner.finish(1)
    await turns()
    assert sizes(runner.started)[2:] == [[1]]


@on_loop
async def test_each_request_gets_its_own_rows_once() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, max_batch_size=8)
    numbers = [asking.send(rows) for rows in (2, 1, 3, 1, 1, 4)]
    await runner.finish_all()
    assert all(asking.has_own_rows(number) for number in numbers)
    assert asking.counts() == {"ok": 6}
    assert asking.batcher.in_flight == asking.batcher.running == 0
    assert all(item.stage is Stage.DONE for item in asking.items)


@on_loop
async def test_an_answer_names_model_version_request_and_output() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    number = asking.send()
    await runner.finish_all()
    answer = asking.only(number)
    assert isinstance(answer, InferenceResponse)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "1")
    assert [tensor.name for tensor in answer.outputs] == ["y"]


@on_loop
async def test_only_the_outputs_asked_for_are_answered() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    number = asking.send(outputs=(0,))
    await runner.finish_all()
    answer = asking.only(number)
    assert isinstance(answer, InferenceResponse)
    assert len(answer.outputs) == 1


@on_loop
async def test_keys_are_never_mixed_and_the_oldest_goes_first() -> None:
    runner = FakeBatchRunner()
    asking = client(runner)
    asking.send(key="busy")
    await turns()
    for arrival, key in enumerate("baab"):
        asking.send(key=key, arrival_ns=arrival)
    for _ in range(2):
        runner.finish()
        await turns()
    assert [[item.key for item in batch.items] for batch in runner.started[1:]] == [
        ["b", "b"],
        ["a", "a"],
    ]
    assert asking.statistics.closed == {"available": 2, "mismatch": 1}


@on_loop
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    runner = FakeBatchRunner()
    runner.rate = 2.0
    asking = client(runner, max_queue_size=3)
    asking.send()
    await turns()
    for rows in (4, 4, 4):
        asking.send(rows)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size") as caught:
        asking.send()
    assert caught.value.retry_after_s == 6.0  # 12 rows wait, 2 a second get through
    assert asking.counts() == {"ok": 0, "REJECTED": 1}
    assert asking.batcher.in_flight == 4
    await runner.finish_all()
    assert asking.counts() == {"ok": 4, "REJECTED": 1}
    assert asking.heard[4] == []


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1e9, 1.0), (1e-3, 60.0)])
@on_loop
async def test_time_to_come_back_is_a_second_to_a_minute(rate: float, expected: float) -> None:
    runner = FakeBatchRunner(instances=0)
    runner.rate = rate
    asking = client(runner, max_queue_size=1)
    asking.send(5)
    with pytest.raises(Overloaded) as caught:
        asking.send()
    assert caught.value.retry_after_s == expected


@on_loop
async def test_delay_lets_more_come_and_then_runs_what_came() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, delay_ns=3_600_000_000_000)
    asking.send()
    await turns(2)
    asking.send()
    await turns(2)
    assert not runner.started, "an instance is free, and the policy waits"
    for _ in range(6):
        asking.send()
    await turns(2)
    assert sizes(runner.started) == [[1] * 8], "a full batch does not wait"
    assert asking.statistics.closed == {"full": 1}


@on_loop
async def test_delay_counts_from_the_arrival_of_the_oldest() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, delay_ns=3_600_000_000_000)
    item = queued(value=1.0)
    item.arrival_ns -= 7_200_000_000_000
    asking.batcher.enqueue(item)
    await turns(2)
    assert len(runner.started) == 1
    assert asking.statistics.closed == {"delay": 1}


@on_loop
async def test_a_timer_looks_again_when_the_delay_is_over() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, delay_ns=2_000_000)
    asking.send()
    async with asyncio.timeout(5):
        while not runner.started:
            await turns()
    assert asking.statistics.closed == {"delay": 1}


@on_loop
async def test_answers_may_overtake_each_other_without_preserve_ordering() -> None:
    runner = FakeBatchRunner(instances=2)
    asking = client(runner, max_batch_size=1)
    asking.send()
    asking.send()
    await turns()
    runner.finish(1)
    assert asking.order == [1]
    runner.finish()
    assert asking.order == [1, 0]


@on_loop
async def test_preserve_ordering_holds_answers_back_until_their_turn() -> None:
    runner = FakeBatchRunner(instances=2)
    asking = client(runner, max_batch_size=2, preserve_ordering=True)
    for _ in range(6):
        asking.send()
    await turns()
    runner.finish(1)
    assert asking.order == []
    runner.finish(0)
    assert asking.order == [0, 1, 2, 3]
    await runner.finish_all()
    assert asking.order == [0, 1, 2, 3, 4, 5]
    assert all(asking.has_own_rows(number) for number in range(6))


@on_loop
async def test_preserve_ordering_is_not_held_up_by_who_has_left() -> None:
    runner = FakeBatchRunner(instances=2)
    asking = client(runner, max_batch_size=1, preserve_ordering=True)
    asking.send()
    asking.send()
    await turns()
    runner.finish(1)
    asking.items[0].cancel()
    assert asking.order == [1]


@on_loop
async def test_cancel_of_an_answer_that_is_held_back_tells_nobody() -> None:
    """With preserve_ordering an answer may be ready and not yet given."""
    runner = FakeBatchRunner(instances=2)
    asking = client(runner, max_batch_size=1, preserve_ordering=True)
    first, second = asking.send(), asking.send()
    await turns()
    runner.finish(1)
    asking.items[second].cancel()
    await runner.finish_all()
    assert asking.has_own_rows(first)
    assert asking.heard[second] == []


@on_loop
async def test_drain_waits_for_what_is_queued_and_running() -> None:
    runner = FakeBatchRunner()
    asking = client(runner, max_batch_size=1)
    for _ in range(3):
        asking.send()
    draining = clock().create_task(asking.batcher.drain())
    for left in (3, 2, 1):
        await turns(3)
        assert not draining.done(), f"{left} are left"
        runner.finish()
    await draining
    assert asking.counts() == {"ok": 3}


@on_loop
async def test_drain_of_an_idle_batcher_returns_at_once() -> None:
    await asyncio.wait_for(client(FakeBatchRunner()).batcher.drain(), 5)


@on_loop
async def test_drain_ends_when_the_last_that_waits_leaves() -> None:
    runner = FakeBatchRunner(instances=0)
    asking = client(runner)
    asking.send()
    draining = clock().create_task(asking.batcher.drain())
    await turns(2)
    asking.items[0].cancel()
    await asyncio.wait_for(draining, 5)


@pytest.mark.parametrize(
    ("default", "override", "asked", "expected"),
    [
        (0, True, 0, 0), (0, True, 70, 70), (50, True, 0, 50), (50, True, 70, 50),
        (50, True, 20, 20), (50, False, 20, 50), (0, False, 20, 0), (50, True, -1, 50),
    ],
)  # fmt: skip
def test_a_request_can_shorten_its_wait_and_never_lengthen_it(
    default: int, override: bool, asked: int, expected: int
) -> None:
    assert QueueOptions(9, default, override).timeout_us(asked) == expected


@on_loop
async def test_no_more_is_batched_than_the_runner_finds_worth_it() -> None:
    runner = FakeBatchRunner(instances=2)
    runner.worth = 2
    asking = client(runner)
    for _ in range(5):
        asking.send()
    await turns()
    assert sizes(runner.started) == [[1, 1], [1, 1]]
    assert runner.alone == [False, False]
    runner.finish()
    await turns()
    assert sizes(runner.started)[2:] == [[1]]
    assert runner.alone[2:] == [True]
