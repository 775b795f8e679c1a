"""Whatever comes in whatever order, as riders or the ordinary way, and whoever leaves, fails or
ends meanwhile: each request of a sequence ends once, with the sum of those before it."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.sequences.asking import Runner, Talker, accumulate, item_of, talker
from fakes import clock, on_loop, turns
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.errors import BackendError, InferdError
from inferd.protocols.express.rider import Held
from inferd.protocols.express.sequence_riders import SequenceRiders
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceResponse, SequenceStep
from inferd.types.tensor import Array

IDS, SLOTS, MAX_WAITING, LIMIT = 4, 3, 9, 3
BAD = 2.0**52
"""What the model raises at; of all other requests of a history, none has the value of another."""


class Sums(Runner):
    """A model with the server's state, which can run merged inputs at once."""

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        if not self.free:
            return None
        if (inputs[0] >= BAD).any():
            return BatchResult(None, BackendError("bad"), 1, 1)
        return BatchResult(self.compute(inputs), None, 1, 1)

    def end(self, how: str) -> None:
        """End the batch that runs: as a model that raises for all where one is bad, as one that
        answers the others, or as a worker that is lost."""
        batch, done = self.running.pop(0)
        self.free += 1
        if how == "lost":
            self.restarts += 1
            done(batch, BatchResult(None, BackendError("lost"), 1, 1, again=True))
            return
        bad = [place for place, row in enumerate(batch.merge()[0]) if row.item() >= BAD]
        if not bad:
            done(batch, BatchResult(self.compute(batch.merge()), None, 1, 1))
        elif how == "all":
            done(batch, BatchResult(None, BackendError("bad"), 1, 1))
        else:
            errors: dict[int, InferdError] = {place: BackendError("bad") for place in bad}
            done(batch, BatchResult(self._without(batch, bad), None, 1, 1, errors))

    def _without(self, batch: Batch, bad: list[int]) -> list[Array]:
        if len(bad) == len(batch.items):
            return []
        return [np.delete(array, bad, 0) for array in self.compute(batch.merge())]


class Body(msgspec.Struct, array_like=True):
    """A request as the form below writes it."""

    id: int
    start: bool
    end: bool
    value: float
    plain: bool


class Form:
    """A StepForm."""

    def __init__(self) -> None:
        self.written: list[int] = []
        """How many answers were written together."""

    def row(self, body: bytes) -> object:
        raise ValueError

    def step(self, body: bytes) -> tuple[object, SequenceStep]:
        said = msgspec.json.decode(body, type=Body)
        if not said.plain:
            raise ValueError
        return said.value, SequenceStep(said.id, said.start, said.end)

    def merge(self, rows: list[object]) -> Array:
        return np.array(rows, np.float64).reshape(-1, 1)

    def answers(self, outputs: list[Array]) -> list[bytes]:
        self.written.append(len(outputs[0]))
        return [b"%d" % int(value) for value in outputs[0].ravel()]


@dataclass(eq=False)
class Asked:
    """A Rider, and what it has heard: sums, errors."""

    said: Body
    asking: Talker
    timeout_us: int = 0
    heard: list[int | InferdError] = field(default_factory=list)
    left: bool = False
    held: Held | None = None

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.said)

    def answer(self, body: bytes) -> None:
        self.heard.append(int(body))

    def wait(self, held: Held) -> None:
        self.held = held

    def walk(self) -> None:
        said = self.said
        item = item_of(said.id, said.start, said.end, timeout_us=self.timeout_us)
        item.arrays = [np.array([[said.value]])]
        item.on_done = self.settle
        try:
            self.asking.batcher.enqueue(item)
        except InferdError as error:
            self.settle(error)
        else:
            self.held = item

    def settle(self, result: InferenceResponse | InferdError) -> None:
        if isinstance(result, InferenceResponse):
            self.heard.append(int(result.outputs[0].array.item()))
        else:
            self.heard.append(result)

    def fail(self) -> None:
        raise AssertionError("the lane has failed")

    def leave(self) -> None:
        if not self.heard and not self.left:
            self.left = True
            if self.held is not None:
                self.held.cancel()


requests = st.tuples(
    st.integers(1, IDS), st.sampled_from([True, False, False]),
    st.sampled_from([False, False, True]), st.sampled_from([False, False, False, True]),
    st.sampled_from([True, True, False]), st.sampled_from([0, 0, 10_000_000]),
)  # fmt: skip
"""Which sequence, start, end, whether the model raises at it, whether it may ride, its time-out."""
actions = st.one_of(
    st.tuples(st.just("ask"), st.lists(requests, min_size=1, max_size=5)),
    st.tuples(st.just("end"), st.sampled_from(["some", "all", "all", "lost"])),
    st.tuples(st.sampled_from(["turn", "turn", "leave", "silence", "gone"]), st.integers(0, 40)),
)


class History:
    """What has come to one batcher, and what must hold of it."""

    def __init__(self, asking: Talker, runners: list[Sums]) -> None:
        self.asking = asking
        self.runners = runners
        self.all: list[Asked] = []
        served = SimpleNamespace(
            name="m", version=3, takes_riders=True,
            description=SimpleNamespace(max_batch_size=LIMIT),
        )  # fmt: skip
        self.form = Form()
        self.riders = SequenceRiders(cast(ServedModel, served), asking.batcher, self.form)

    async def do(self, what: str, how: Any) -> None:
        if what == "ask":
            self.ask(how)
        elif what == "end":
            for runner in self.runners:
                if runner.running:
                    runner.end(how)
        elif what == "turn":
            await turns()
        elif what == "silence":
            await clock().pass_time(how)
        elif what == "leave" and self.all:
            self.all[-1 - how % min(len(self.all), 12)].leave()
        elif what == "gone":
            place = how % len(self.runners)
            returned, gone, _ = self.asking.batcher.listener(place)
            if not self.runners[place].running:
                gone(BackendError("gone"))
                returned()

    def ask(self, group: list[tuple[int, bool, bool, bool, bool, int]]) -> None:
        came = []
        for id, start, end, bad, plain, timeout_us in group:
            number = sum(asked.said.id == id for asked in (*self.all, *came))
            value = BAD if bad or number > 50 else 2.0**number
            plain = plain and not timeout_us
            came.append(Asked(Body(id, start, end, value, plain), self.asking, timeout_us))
        self.all.extend(came)
        self.riders.ride(came, 0)

    def check_always(self) -> None:
        table, batcher = self.asking.batcher.table, self.asking.batcher
        placed = [(s.instance, s.slot) for s in table.sequences.values() if s not in table.backlog]
        assert len(placed) == len(set(placed)), "two sequences in one slot"
        assert table.waiting == sum(len(s.waiting) for s in table.sequences.values())
        assert batcher.in_flight == sum(not (one.heard or one.left) for one in self.all)
        assert all(len(one.heard) <= 1 for one in self.all), "answered twice"

    async def check_at_the_end(self) -> None:
        batcher = self.asking.batcher
        draining = clock().create_task(batcher.drain())
        while not draining.done():
            await turns(2)
            for runner in self.runners:
                while runner.running:
                    runner.end("all")
        assert batcher.table.sequences == {}
        assert batcher.in_flight == batcher.running == 0
        assert all(len(one.heard) == (not one.left) for one in self.all)
        counts = self.asking.counts()
        assert counts["ok"] == sum(isinstance(h, int) for one in self.all for h in one.heard)
        assert sum(counts.values()) == len(self.all)
        for id in range(1, IDS + 1):
            self.check_sums([one for one in self.all if one.said.id == id])

    def check_sums(self, of_one: list[Asked]) -> None:
        """Each sum is that of all that were answered since the last start and of nothing that has
        failed; of one whose client has left nobody knows."""
        sure = perhaps = 0
        for one in of_one:
            value, lost = int(one.said.value), one.left
            (heard,) = one.heard or (None,)
            if one.said.start and (lost or not _refused(heard)):
                sure = perhaps = 0
            if isinstance(heard, int):
                sure |= value
                assert heard & ~(sure | perhaps) == 0, "of another sequence, or one that has failed"
                assert heard & sure == sure, "one before it is missing"
                sure, perhaps = heard, 0
            elif lost and one.said.value < BAD:
                perhaps |= value


def _refused(heard: int | InferdError | None) -> bool:
    """Whether it never was in its sequence, or was lost before it ran."""
    return isinstance(heard, InferdError) and str(heard) != "bad"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(actions, max_size=40), st.sampled_from([1, 1, 2]), st.sampled_from([True, True, False])
)
@on_loop
async def test_each_ends_once_with_the_sum_of_its_sequence(
    actions: list[tuple[str, Any]], instances: int, oldest: bool
) -> None:
    runners = [Sums(compute=accumulate) for _ in range(instances)]
    asking = talker(
        cast(list[Runner], runners), SLOTS, oldest, True, idle_s=30, max_waiting=MAX_WAITING
    )
    history = History(asking, runners)
    for what, how in actions:
        await history.do(what, how)
        history.check_always()
    await history.check_at_the_end()


@on_loop
async def test_riders_of_several_turns_that_run_together_are_answered_together() -> None:
    runner = Sums(compute=accumulate)
    asking = talker([runner], SLOTS, oldest=True, stateful=True)
    history = History(asking, [runner])
    runner.free = 0
    for id in (1, 2, 3):
        history.ask([(id, True, False, False, True, 0)])
        await turns(2)
    runner.free = 1
    asking.batcher.look()
    await turns(2)
    runner.end("all")
    assert [one.heard for one in history.all] == [[1], [1], [1]]
    assert history.form.written == [3]
