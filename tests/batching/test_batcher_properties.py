"""Whatever comes, in whatever order: each request ends once, with its own rows or its own error."""

from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import Client, client
from fakes import FakeBatchRunner, clock, on_loop, turns
from inferd.batching.batch import Batch
from inferd.errors import BackendError, InferdError, Overloaded, RequestTimeout

MAX_ROWS = 6
MAX_QUEUE = 12
HOUR_US = 3600 * 10**6
NEVER, SOON = 0, HOUR_US

arrivals = st.tuples(
    st.just("send"),
    st.integers(1, 5),
    st.sampled_from("abc"),
    st.sampled_from([NEVER, NEVER, NEVER, SOON]),
    st.sampled_from([False, False, False, True]),
)
others = st.tuples(
    st.sampled_from(["finish", "finish", "cancel", "turn", "turn", "hour"]), st.integers(0, 50)
)
histories = st.lists(st.one_of(arrivals, arrivals, others), max_size=60)


class History:
    """What was done to a batcher, and what must hold of it."""

    def __init__(self, asking: Client, runner: FakeBatchRunner) -> None:
        self.asking = asking
        self.runner = runner
        self.bad: set[int] = set()
        self.hasty: set[int] = set()
        self.cancelled: set[int] = set()
        self.refused: set[int] = set()
        runner.fails = self.fails

    def fails(self, batch: Batch) -> InferdError | None:
        if any(int(item.request.id) - 1 in self.bad for item in batch.items):
            return BackendError("bad")
        return None

    async def do(self, action: tuple[object, ...]) -> None:
        asking, runner = self.asking, self.runner
        if action[0] == "send":
            _, rows, key, timeout_us, bad = action
            number = len(asking.items)
            if bad:
                self.bad.add(number)
            try:
                asking.send(rows, key, timeout_us=timeout_us)  # type: ignore[arg-type]
            except Overloaded:
                assert asking.batcher.queue.size == MAX_QUEUE
                self.refused.add(number)
            else:
                if timeout_us:
                    self.hasty.add(number)
        elif action[0] == "turn":
            await turns()
        elif action[0] == "hour":
            await clock().pass_time(3601)
        elif action[0] == "finish" and runner.running:
            runner.finish(int(action[1]) % len(runner.running))  # type: ignore[call-overload]
        elif action[0] == "cancel" and asking.items:
            number = int(action[1]) % len(asking.items)  # type: ignore[call-overload]
            if not asking.heard[number] and number not in self.refused:
                self.cancelled.add(number)
            asking.items[number].cancel()

    def check_always(self) -> None:
        batcher = self.asking.batcher
        assert batcher.queue.size <= MAX_QUEUE
        ended = sum(bool(heard) for heard in self.asking.heard) + len(self.cancelled)
        assert batcher.in_flight == len(self.asking.items) - len(self.refused) - ended
        for batch in self.runner.started:
            assert batch.rows == sum(item.rows for item in batch.items) <= MAX_ROWS
            assert len({item.key for item in batch.items}) == 1

    def check_at_the_end(self) -> None:
        asking = self.asking
        for number in range(len(asking.items)):
            if number in self.refused or number in self.cancelled:
                assert asking.heard[number] == []
                continue
            answer = asking.only(number)
            if isinstance(answer, RequestTimeout):
                assert number in self.hasty
            elif number in self.bad:
                assert isinstance(answer, BackendError)
            else:
                assert asking.has_own_rows(number)
        batcher = asking.batcher
        assert (batcher.in_flight, batcher.running, batcher.queue.size) == (0, 0, 0)
        assert batcher.queue.groups == {}
        assert batcher.queue.rows == 0
        counted = asking.statistics
        assert counted.success.count + counted.fail.count == len(asking.items)
        assert counted.failures["CANCELED"] == len(self.cancelled)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(histories, st.integers(1, 3), st.sampled_from([(), (4,), (2, 6)]))
@on_loop
async def test_every_request_ends_once_and_no_batch_is_too_large_or_mixed(
    history: list[tuple[object, ...]], instances: int, preferred: tuple[int, ...]
) -> None:
    runner = FakeBatchRunner(instances)
    asking = client(runner, MAX_ROWS, MAX_QUEUE, preferred=preferred)
    played = History(asking, runner)
    for action in history:
        await played.do(action)
        played.check_always()
    await runner.finish_all()
    played.check_at_the_end()


@settings(derandomize=True, deadline=None, max_examples=150)
@given(histories, st.integers(1, 3))
@on_loop
async def test_ordered_answers_are_given_in_order_of_arrival(
    history: list[tuple[object, ...]], instances: int
) -> None:
    runner = FakeBatchRunner(instances)
    asking = client(runner, MAX_ROWS, MAX_QUEUE, preserve_ordering=True)
    played = History(asking, runner)
    for action in history:
        if action[0] != "cancel":
            await played.do(action)
        assert asking.order == sorted(asking.order)
    await runner.finish_all()
    played.check_at_the_end()
    assert asking.order == sorted(asking.order)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(histories)
@on_loop
async def test_drain_returns_when_and_only_when_all_is_done(
    history: list[tuple[object, ...]],
) -> None:
    runner = FakeBatchRunner(2)
    asking = client(runner, MAX_ROWS, MAX_QUEUE)
    played = History(asking, runner)
    for action in history:
        await played.do(action)
    draining = clock().create_task(asking.batcher.drain())
    await turns(2)
    while runner.running:
        assert not draining.done()
        runner.finish()
        await turns(2)
    await turns(2)
    assert draining.done()
    played.check_at_the_end()
