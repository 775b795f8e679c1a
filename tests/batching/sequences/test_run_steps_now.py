"""Requests of sequences that came together, and are merged already, may be run without being
queued."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.sequences.asking import CONTROLS, Runner, Talker, accumulate, talker
from fakes import clock, on_loop, turns
from inferd.batching.batcher import BatchResult
from inferd.batching.policy import BatchPolicy
from inferd.batching.sequences.strategy import Oldest
from inferd.errors import BackendError
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array


class NowRunner(Runner):
    """A Runner that runs merged inputs at once, while it is free."""

    broken: Callable[[list[Array]], list[Array]] | None = None

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        self.now_calls.append((inputs, rows))
        if not self.free:
            return None
        if self.broken is None:
            return BatchResult(self.compute(inputs), None, 10, 20)
        try:
            return BatchResult(self.broken(inputs), None, 10, 20)
        except ValueError as error:
            return BatchResult(None, BackendError(str(error)), 10, 20)


def now(asking: Talker, *steps: tuple[int | str, bool, bool], value: float = 1.0) -> object:
    """What comes of requests that come together: their sums, or None."""
    inputs = [np.full((len(steps), 1), value, np.float32)]
    outputs = asking.batcher.run_steps_now(inputs, [SequenceStep(*step) for step in steps], 0)
    return outputs if outputs is None else outputs[0].ravel().tolist()


def talk(**options: object) -> tuple[Talker, NowRunner]:
    runner = NowRunner(compute=accumulate)
    told = {"oldest": True, "stateful": True, **options}
    return talker([runner], **told), runner  # type: ignore[arg-type]


START, ON, END, ALONE = (True, False), (False, False), (False, True), (True, True)


@on_loop
async def test_sums_go_on_and_end_and_are_counted() -> None:
    asking, runner = talk()
    assert now(asking, (1, *START), (2, *START)) == [1, 1]
    assert now(asking, (2, *ON), (1, *ON), (3, *ALONE), value=10) == [11, 11, 10]
    assert now(asking, (1, *START), value=5) == [5], "a start begins anew"
    assert now(asking, (1, *END), (2, *END), value=100) == [105, 111]
    assert asking.batcher.table.sequences == {}
    assert [inputs[4].ravel().tolist() for inputs, _ in runner.now_calls] == [
        [1, 2], [2, 1, 3], [1], [1, 2],
    ]  # fmt: skip
    statistics = asking.batcher._statistics
    assert (statistics.success.count, statistics.execution_count) == (8, 4)
    assert statistics.closed == {"available": 4}
    assert asking.batcher.in_flight == asking.batcher.running == 0


@on_loop
async def test_as_many_as_a_batch_holds_are_a_full_one() -> None:
    asking, _ = talk(slots=2)
    assert now(asking, (1, *START), (2, *START)) is not None
    assert asking.batcher._statistics.closed == {"full": 1}


@pytest.mark.parametrize(
    "steps",
    [
        [(1, *ON), (9, *ON)], [(1, *ON), (1, *ON)], [(8, *START), (9, *START), (10, *START)],
        [(1, *ON), ("text", *START)],
    ],
    ids=["of no sequence", "two of one", "no slot", "an id that its model cannot be told"],
)  # fmt: skip
@on_loop
async def test_what_cannot_run_at_once_changes_nothing(
    steps: list[tuple[int | str, bool, bool]],
) -> None:
    asking, runner = talk(slots=3)
    assert now(asking, (1, *START)) == [1]
    assert now(asking, *steps) is None
    assert len(runner.now_calls) == 1
    assert list(asking.batcher.table.sequences) == [1]
    assert now(asking, (1, *ON)) == [2]
    assert asking.batcher._statistics.success.count == 2


@on_loop
async def test_nobody_is_overtaken() -> None:
    asking, runner = talk()
    asking.send(1, start=True, value=1)
    assert now(asking, (2, *START)) is None, "one waits"
    await turns(2)
    assert now(asking, (2, *START)) is None, "one runs"
    assert now(asking, (1, *ON)) is None, "one of its own runs"
    runner.finish()
    assert now(asking, (1, *ON)) == [2]
    runner.free = 0
    assert now(asking, (1, *ON)) is None
    runner.free = 1
    draining = clock().create_task(asking.batcher.drain())
    await turns(2)
    assert draining.done()
    assert now(asking, (3, *START)) is None, "no more are taken"


@pytest.mark.parametrize(
    "options",
    [
        {"oldest": False}, {"stateful": False}, {"preserve_ordering": True},
        {"strategy": Oldest(BatchPolicy(4, (2,)))}, {"strategy": Oldest(BatchPolicy(4, (), 5))},
    ],
    ids=["rows of their own", "a state elsewhere", "an order", "preferred sizes", "a delay"],
)  # fmt: skip
@on_loop
async def test_a_policy_is_kept(options: dict[str, object]) -> None:
    asking, runner = talk(**options)
    assert now(asking, (1, *START)) is None
    assert runner.now_calls == []


@on_loop
async def test_sequences_of_several_instances_take_their_turns() -> None:
    runners: list[Runner] = [NowRunner(compute=accumulate) for _ in range(2)]
    asking = talker(runners, oldest=True, stateful=True)
    assert now(asking, (1, *START)) is None


@pytest.mark.parametrize(
    "broken",
    [
        lambda inputs: [np.zeros((1, 1), np.float32)],
        lambda inputs: [np.zeros((len(inputs[0]), 2), np.float32)],
        lambda inputs: [inputs[0].reshape(99)],
    ],
    ids=["too few rows", "no state", "an error"],
)
@on_loop
async def test_a_run_that_failed_has_changed_no_sequence(
    broken: Callable[[list[Array]], list[Array]],
) -> None:
    asking, runner = talk(controls=CONTROLS[:1])
    assert now(asking, (1, *START), (2, *START)) == [1, 1]
    runner.broken = broken
    assert now(asking, (1, *END), (2, *ON), (3, *START), value=7) is None
    runner.broken = None
    assert list(asking.batcher.table.sequences) == [1, 2]
    assert now(asking, (1, *ON), (2, *END), value=10) == [11, 11]
    assert asking.batcher._statistics.success.count == 4


@on_loop
async def test_silence_ends_what_ran_at_once() -> None:
    asking, _ = talk(idle_s=5)
    now(asking, (1, *START))
    await clock().pass_time(3)
    now(asking, (2, *START))
    await clock().pass_time(3)
    assert list(asking.batcher.table.sequences) == [2]
    assert now(asking, (1, *ON)) is None


steps = st.tuples(st.integers(1, 6), st.booleans(), st.sampled_from([False, False, True]))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.booleans(), st.lists(steps, min_size=1, max_size=4)), max_size=30))
@on_loop
async def test_queued_or_at_once_the_sums_are_the_same(
    history: list[tuple[bool, list[tuple[int, bool, bool]]]],
) -> None:
    """Every request that the batcher takes, of a group that it runs at once or of one that it
    queues, gets the sum of its sequence."""
    asking, runner = talk(slots=6)
    sums: dict[int, float] = {}
    for turn, (at_once, group) in enumerate(history):
        known = [step for step in group if step[1] or step[0] in sums]
        value = float(turn + 1)
        got = now(asking, *known, value=value) if at_once and known else None
        expected = []
        queued = []
        for id, start, end in known:
            if not start and id not in sums:  # it has ended within this group
                continue
            sums[id] = value + (0 if start else sums[id])
            expected.append(sums[id])
            if got is None:
                queued.append(asking.send(id, start, end, value))
            if end:
                del sums[id]
        if got is None:
            await runner.finish_all()
            got = [asking.sum(number) for number in queued]
        assert got == expected
        assert set(asking.batcher.table.sequences) == set(sums)
