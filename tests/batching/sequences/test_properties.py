"""Whatever comes, in whatever order: no slot has two sequences, each sequence runs in order and one
request at a time, and each request ends once."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from batching.sequences.asking import Runner, Talker, accumulate, talker
from fakes import clock, on_loop, turns
from inferd.batching.batch import Batch
from inferd.batching.queue import DONE
from inferd.batching.sequences.sequence import step_of
from inferd.errors import BackendError, InferdError, InvalidRequest, Overloaded
from inferd.types.inference import InferenceResponse

SLOTS, MAX_WAITING, BAD = 3, 12, 1000.0

sends = st.tuples(
    st.just("send"), st.integers(1, 6), st.sampled_from([False, False, True]),
    st.sampled_from([False, False, True]), st.sampled_from([False, False, False, True]),
    st.sampled_from(["a", "a", "b"]),
)  # fmt: skip
others = st.tuples(
    st.sampled_from(["finish", "finish", "turn", "turn", "cancel", "silence", "gone"]),
    st.integers(0, 50),
)
histories = st.lists(st.one_of(sends, sends, others), max_size=60)


class History:
    """What was done to a batcher, and what must hold of it."""

    def __init__(self, asking: Talker, runners: list[Runner], bad_fails: bool) -> None:
        self.asking = asking
        self.runners = runners
        self.left: set[int] = set()
        for runner in runners:
            runner.fails = self.fails if bad_fails else lambda batch: None

    def fails(self, batch: Batch) -> InferdError | None:
        bad = any(float(item.request.id or 0) >= BAD for item in batch.items)
        return BackendError("bad") if bad else None

    async def do(self, action: tuple[object, ...]) -> None:
        asking = self.asking
        number = action[1]
        assert isinstance(number, int)
        if action[0] == "send":
            _, id, start, end, bad, key = action
            with suppress(InvalidRequest, Overloaded):
                asking.send(id, start, end, BAD if bad else 1.0, key=key)  # type: ignore[arg-type]
        elif action[0] == "turn":
            await turns()
        elif action[0] == "silence":
            await clock().pass_time(40)
        elif action[0] == "finish":
            runner = self.runners[number % len(self.runners)]
            if runner.running:
                runner.finish()
        elif action[0] == "gone":
            runner = self.runners[number % len(self.runners)]
            returned, gone, _ = asking.batcher.listener(number % len(self.runners))
            if not runner.running:
                gone(BackendError("gone"))
                returned()
        elif asking.items:
            place = number % len(asking.items)
            if not asking.heard[place]:
                self.left.add(place)
            asking.items[place].cancel()

    def check_always(self) -> None:
        table = self.asking.batcher.table
        placed = [(s.instance, s.slot) for s in table.sequences.values() if s not in table.backlog]
        assert len(placed) == len(set(placed)), "two sequences in one slot"
        assert all(0 <= slot < SLOTS for _, slot in placed)
        assert table.waiting == sum(len(s.waiting) for s in table.sequences.values())
        running = [batch for runner in self.runners for batch, _ in runner.running]
        ids = [step_of(i).id for batch in running for i in batch.items if i.request.sequence]
        assert len(ids) == len(set(ids)), "two requests of a sequence at once"
        going_on = [item for item in self.asking.items if item.stage is not DONE]
        assert self.asking.batcher.in_flight == len(going_on)

    async def check_at_the_end(self) -> None:
        asking = self.asking
        draining = clock().create_task(asking.batcher.drain())
        for _ in range(3 * len(asking.items) + 3):
            await turns(2)
            for runner in self.runners:
                while runner.running:
                    runner.finish()
        assert draining.done()
        assert asking.batcher.table.sequences == {}
        assert asking.batcher.in_flight == 0
        for place, heard in enumerate(asking.heard):
            assert len(heard) == (place not in self.left)
        batches = [batch for runner in self.runners for batch in runner.started]
        batches.sort(key=lambda batch: batch.start_ns)
        started = [item for batch in batches for item in batch.items]
        places = {id(item): place for place, item in enumerate(asking.items)}
        first: dict[int, None] = dict.fromkeys(places[id(i)] for i in started if id(i) in places)
        for name in range(1, 7):
            of_one = [p for p in first if step_of(asking.items[p]).id == name]
            assert of_one == sorted(of_one), "a sequence that did not run in order"


@settings(derandomize=True, deadline=None, max_examples=120)
@given(histories, st.integers(1, 2), st.booleans(), st.booleans(), st.booleans())
@on_loop
async def test_slots_order_and_endings(
    history: list[tuple[object, ...]], instances: int, oldest: bool, stateful: bool, ordered: bool
) -> None:
    runners = [Runner(compute=accumulate) for _ in range(instances)]
    asking = talker(
        runners, SLOTS, oldest, stateful, idle_s=30, max_waiting=MAX_WAITING,
        preserve_ordering=ordered,
    )  # fmt: skip
    played = History(asking, runners, bad_fails=True)
    for action in history:
        await played.do(action)
        played.check_always()
    await played.check_at_the_end()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(histories, st.integers(1, 2), st.booleans())
@on_loop
async def test_sums_are_those_of_the_requests_that_were_answered(
    history: list[tuple[object, ...]], instances: int, oldest: bool
) -> None:
    runners = [Runner(compute=accumulate) for _ in range(instances)]
    asking = talker(runners, SLOTS, oldest, True, idle_s=30, max_waiting=MAX_WAITING)
    played = History(asking, runners, bad_fails=False)
    for action in history:
        if action[0] != "gone":
            await played.do(action)
    await played.check_at_the_end()
    sums: dict[object, float] = {}
    for place, item in enumerate(asking.items):
        step, value = step_of(item), float(item.arrays[0].item())
        heard = asking.heard[place]
        ran = bool(heard) and isinstance(heard[0], InferenceResponse)
        if not ran and not any(item in b.items for r in runners for b in r.started):
            continue  # it was given up, or was lost, before it ran
        sums[step.id] = value + (0 if step.start else sums[step.id])
        if ran:
            assert asking.sum(place) == sums[step.id]
