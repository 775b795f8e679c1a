"""The SequenceBatcher in front of runners that tests hold in their own hands."""

import numpy as np
import pytest

from batching.sequences.asking import (
    CONTROLS,
    Accumulators,
    Answer,
    Runner,
    accumulate,
    talker,
)
from fakes import clock, on_loop, turns
from inferd.batching.batch import StreamPart
from inferd.batching.batcher import BatchResult
from inferd.batching.sequences.strategy import Direct
from inferd.errors import (
    BackendError,
    InvalidRequest,
    Overloaded,
    RequestCancelled,
    RequestTimeout,
)

STARTED, GOES_ON, ENDED, NOBODY = (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 0)


@on_loop
async def test_direct_keeps_each_sequence_in_its_row_and_says_so() -> None:
    model = Accumulators()
    runner = Runner(compute=model)
    asking = talker([runner])
    for id in (7, 8, 9):
        asking.send(id, start=True, value=id)
    await runner.finish_all()
    asking.send(9, value=10)
    await runner.finish_all()
    asking.send(7, value=1, end=True)
    asking.send(9, value=100, end=True)
    await runner.finish_all()
    assert model.seen == [
        [(*STARTED, 7), (*STARTED, 8), (*STARTED, 9)],
        [(*NOBODY, 0), (*NOBODY, 0), (*GOES_ON, 9)],
        [(*ENDED, 7), (*NOBODY, 0), (*ENDED, 9)],
    ]
    assert [asking.sum(n) for n in range(6)] == [7, 8, 9, 19, 8, 119]


@on_loop
async def test_requests_of_a_sequence_run_one_at_a_time_in_order() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], oldest=True, stateful=True, controls=CONTROLS[:3])
    for place in range(4):
        asking.send(1, start=place == 0, end=place == 3, value=10**place)
        asking.send("1", start=place == 0, end=place == 3, value=2 * 10**place)
    await turns()
    assert [len(batch.items) for batch in runner.started] == [2]
    await runner.finish_all()
    assert [len(batch.items) for batch in runner.started] == [2, 2, 2, 2]
    assert [asking.sum(n) for n in range(8)] == [1, 2, 11, 22, 111, 222, 1111, 2222]
    assert asking.batcher.table.sequences == {}


@on_loop
async def test_a_state_that_moves_between_batches_stays_with_its_sequence() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], oldest=True, stateful=True)
    expected = []
    sums = dict.fromkeys(range(1, 5), 0.0)
    for step, ids in enumerate([(1, 2, 3, 4), (1, 2, 3, 4), (4, 2), (3,), (2, 1, 4, 3)]):
        for id in ids:
            asking.send(id, start=step == 0, value=10.0**step * id)
            sums[id] += 10.0**step * id
            expected.append(sums[id])
        await runner.finish_all()
    assert [asking.sum(n) for n in range(len(expected))] == expected


@on_loop
async def test_a_state_that_comes_whole_goes_on_whole() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], oldest=True, stateful=True)
    given, taken = [], []
    for step in range(2):
        for id in (1, 2):
            asking.send(id, start=step == 0)
        await turns()
        merged = runner.running[0][0].merge()
        taken.append(merged[-1])
        given.append(accumulate(merged))
        runner.finish(outputs=given[-1])
        await turns(2)
    assert taken[1] is given[0][0]


@on_loop
async def test_a_start_begins_a_sequence_anew() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    asking.send(1, start=True, value=1)
    asking.send(1, value=2)
    asking.send(1, start=True, value=10)
    asking.send(1, value=20)
    await runner.finish_all()
    assert [asking.sum(n) for n in range(4)] == [1, 3, 10, 30]
    assert asking.batcher.table.active == 1


@on_loop
async def test_more_sequences_than_slots_wait_in_order_and_the_end_frees_a_slot() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True)
    for id in (1, 2, 3):
        asking.send(id, start=True, value=id)
        asking.send(id, end=True, value=10)
    table = asking.batcher.table
    assert (table.active, len(table.backlog), asking.batcher.waiting) == (1, 2, 6)
    await runner.finish_all()
    assert asking.order == [0, 1, 2, 3, 4, 5]
    assert [asking.sum(n) for n in (1, 3, 5)] == [11, 12, 13]
    assert (table.active, len(table.backlog)) == (0, 0)


@on_loop
async def test_an_id_that_is_used_again_is_told_again() -> None:
    model = Accumulators()
    runner = Runner(compute=model)
    asking = talker([runner], slots=1)
    for value in (1, 2):
        asking.send(7, start=True, value=value)
        asking.send(7, end=True, value=10)
    await runner.finish_all()
    assert [told[3] for (told,) in model.seen] == [7, 7, 7, 7]
    assert [asking.sum(n) for n in range(4)] == [1, 11, 2, 12]


@on_loop
async def test_an_id_that_is_used_again_waits_for_its_own_end_and_then_behind_others() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True)
    asking.send(1, start=True, end=True, value=1)
    asking.send(2, start=True, end=True, value=2)
    asking.send(1, start=True, value=4)
    asking.send(1, end=True, value=8)
    await runner.finish_all()
    assert asking.order == [0, 1, 2, 3]
    assert [asking.sum(n) for n in range(4)] == [1, 2, 4, 12]


@on_loop
async def test_what_triton_says_of_requests_of_no_sequence() -> None:
    asking = talker([Runner()])
    with pytest.raises(InvalidRequest) as error:
        asking.send(5)
    assert str(error.value) == (
        "inference request for sequence 5 to model 'm' must specify the START flag on the first "
        "request of the sequence"
    )
    with pytest.raises(InvalidRequest) as error:
        asking.send(0, start=True)
    assert str(error.value) == (
        "inference request to model 'm' must specify a non-zero or non-empty correlation ID"
    )
    with pytest.raises(InvalidRequest, match="must specify batch-size 1 due to requirements of"):
        asking.send(5, start=True, rows=2)
    with pytest.raises(InvalidRequest, match="is TYPE_UINT64: send an integer"):
        asking.send("five", start=True)
    assert asking.counts() == {"ok": 0, "OTHER": 4}
    assert asking.batcher.table.sequences == {}


@on_loop
async def test_behind_the_end_only_a_start_is_taken() -> None:
    asking = talker([Runner()])
    asking.send(5, start=True, end=True)
    with pytest.raises(InvalidRequest, match="must specify the START flag"):
        asking.send(5)


@on_loop
async def test_a_sequence_that_is_silent_for_too_long_is_over() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True, idle_s=60)
    asking.send(1, start=True)
    asking.send(2, start=True, value=5)
    await runner.finish_all()
    await clock().pass_time(59)
    asking.send(1)
    await runner.finish_all()
    await clock().pass_time(59)
    assert asking.heard[1] == []
    await clock().pass_time(2)
    await runner.finish_all()
    assert asking.sum(1) == 5, "the one behind it has got its slot"
    with pytest.raises(InvalidRequest, match="must specify the START flag"):
        asking.send(1)
    await clock().pass_time(61)
    assert asking.batcher.table.sequences == {}


@on_loop
async def test_a_sequence_is_not_silent_while_its_request_runs() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True, idle_s=60)
    asking.send(1, start=True)
    await turns()
    await clock().pass_time(3600)
    runner.finish()
    await turns(2)
    asking.send(1)
    await runner.finish_all()
    assert asking.sum(1) == 2


@on_loop
async def test_a_request_that_the_model_fails_does_not_end_its_sequence() -> None:
    runner = Runner(compute=accumulate)
    runner.fails = lambda batch: (
        BackendError("bad") if any(i.request.id == "4" for i in batch.items) else None
    )
    asking = talker([runner], oldest=True, stateful=True)
    for place in range(4):
        for id in (1, 2):
            bad = id == 2 and place == 2
            asking.send(id, start=place == 0, value=4 if bad else 10**place)
    await runner.finish_all()
    assert [asking.sum(n) for n in (0, 2, 4, 6)] == [1, 11, 111, 1111], (
        "its neighbour has lost none"
    )
    assert [asking.sum(n) for n in (1, 3, 7)] == [1, 11, 1011]
    assert isinstance(asking.answer(5), BackendError)
    assert asking.counts() == {"ok": 7, "BACKEND": 1}


@on_loop
async def test_a_start_that_fails_has_ended_what_was_before_it() -> None:
    runner = Runner(compute=accumulate)
    runner.fails = lambda batch: BackendError("bad") if batch.items[0].request.id == "4" else None
    asking = talker([runner], oldest=True, stateful=True)
    asking.send(1, start=True, value=1)
    asking.send(1, start=True, value=4)
    asking.send(1, value=10)
    await runner.finish_all()
    assert isinstance(asking.answer(1), BackendError)
    assert asking.sum(2) == 10, "as Triton has it: not the sum of the sequence before"


@on_loop
async def test_a_model_with_states_of_its_own_is_never_run_twice_for_a_request() -> None:
    runner = Runner(compute=Accumulators())
    asking = talker([runner])
    asking.send(1, start=True)
    asking.send(2, start=True)
    await turns()
    runner.fail("broken")
    await turns(2)
    assert [str(asking.answer(n)) for n in (0, 1)] == ["broken", "broken"]
    assert len(runner.started) == 1
    assert asking.batcher.table.active == 2


@on_loop
async def test_a_request_that_is_given_up_takes_with_it_what_comes_behind() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True)
    first = asking.send(1, start=True)
    given_up = asking.send(1)
    behind = asking.send(1)
    other = asking.send(2, start=True, end=True, value=7)
    await turns()
    asking.items[given_up].cancel()
    assert asking.heard[given_up] == []
    assert isinstance(asking.answer(behind), RequestCancelled)
    with pytest.raises(InvalidRequest, match="must specify the START flag"):
        asking.send(1)
    await runner.finish_all()
    assert asking.sum(first) == 1
    assert asking.sum(other) == 7, "the slot is free without waiting for silence"


@on_loop
async def test_what_starts_anew_behind_a_request_that_is_given_up_goes_on() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    asking.send(1, start=True)
    await turns()
    gone = asking.send(1)
    lost = asking.send(1)
    anew = asking.send(1, start=True, value=50)
    asking.items[gone].cancel()
    await runner.finish_all()
    assert isinstance(asking.answer(lost), RequestCancelled)
    assert asking.sum(anew) == 50


@on_loop
async def test_a_time_out_in_the_backlog_gives_the_place_away() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True, idle_s=1000)
    asking.send(1, start=True)
    hasty = asking.send(2, start=True, timeout_us=1_000_000)
    asking.send(3, start=True, value=3)
    await runner.finish_all()
    await clock().pass_time(2)
    assert isinstance(asking.answer(hasty), RequestTimeout)
    asking.send(1, end=True)
    await runner.finish_all()
    assert asking.sum(2) == 3
    assert asking.counts() == {"ok": 3, "REJECTED": 1}


@on_loop
async def test_a_request_whose_client_leaves_while_it_runs_is_a_step_all_the_same() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    asking.send(1, start=True, value=1)
    asking.send(1, value=2)
    await turns()
    asking.items[0].cancel()
    assert runner.given_up == [asking.items[0]]
    await runner.finish_all()
    assert asking.sum(1) == 3


@on_loop
async def test_too_many_are_refused_and_a_sequence_that_lost_one_takes_no_more() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=8, stateful=True, max_waiting=3)
    for id in (1, 2):
        asking.send(id, start=True)
    asking.send(1)
    with pytest.raises(Overloaded):
        asking.send(3, start=True)
    with pytest.raises(Overloaded):
        asking.send(1)
    with pytest.raises(InvalidRequest, match="must specify the START flag"):
        asking.send(1)
    await runner.finish_all()
    assert asking.sum(2) == 2
    assert list(asking.batcher.table.sequences) == [2]


@on_loop
async def test_who_waits_for_each_answer_is_never_refused_on_the_way() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=8, stateful=True, max_waiting=2)
    asking.send(1, start=True)
    await runner.finish_all()
    for id in (2, 3):
        asking.send(id, start=True)
    asking.send(1)
    await runner.finish_all()
    assert asking.sum(3) == 2


@on_loop
async def test_a_sequence_stays_with_its_instance_and_slots_are_dealt_out_in_turn() -> None:
    runners = [Runner(compute=accumulate), Runner(compute=accumulate)]
    asking = talker(runners, slots=2, stateful=True)
    for step in range(3):
        for id in (1, 2, 3, 4):
            asking.send(id, start=step == 0)
        for runner in runners:
            await runner.finish_all()
    for runner in runners:
        ids = [
            {i.request.sequence.id for i in b.items if i.request.sequence} for b in runner.started
        ]
        assert ids[0] in ({1, 3}, {2, 4})
        assert ids == [ids[0]] * 3


@on_loop
async def test_direct_waits_for_enough_slots_but_not_for_long() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True, strategy=Direct(4, 3600 * 10**9, 0.75))
    for id in (1, 2):
        asking.send(id, start=True)
    await turns(3)
    assert runner.started == []
    asking.send(3, start=True)
    await turns(2)
    assert [len(batch.items) for batch in runner.started] == [3]
    runner.finish()
    asking.send(1, arrival_ns=asking.items[0].arrival_ns - 3601 * 10**9)
    await turns(2)
    assert [len(batch.items) for batch in runner.started] == [3, 1]


@on_loop
async def test_in_order_of_arrival_where_that_is_asked_for() -> None:
    runner = Runner(compute=accumulate)
    runner.free = 2
    asking = talker([runner], oldest=True, stateful=True, preserve_ordering=True)
    asking.send(1, start=True, key="a")
    asking.send(2, start=True, key="b")
    asking.send(1, end=True, key="a")
    await turns()
    runner.finish(1)
    assert asking.order == []
    asking.items[2].cancel()
    await runner.finish_all()
    assert asking.order == [0, 1]


@on_loop
async def test_an_orphan_is_told_in_its_turn() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], oldest=True, stateful=True, preserve_ordering=True)
    asking.send(1, start=True)
    gone, orphan = asking.send(1), asking.send(1)
    await turns()
    asking.items[gone].cancel()
    assert asking.order == []
    await runner.finish_all()
    assert asking.order == [0, orphan]


@on_loop
async def test_drain_runs_what_was_accepted_and_waits_for_nobody() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], slots=1, stateful=True, idle_s=1000)
    asking.send(1, start=True)
    await runner.finish_all()
    asking.send(2, start=True)
    asking.send(3, start=True)
    draining = clock().create_task(asking.batcher.drain())
    await runner.finish_all()
    await turns(2)
    assert draining.done()
    assert [asking.sum(n) for n in (1, 2)] == [1, 1]
    assert asking.batcher.table.sequences == {}
    assert asking.batcher.in_flight == 0


@on_loop
async def test_what_a_worker_knew_is_lost_with_it() -> None:
    runner = Runner(compute=Accumulators())
    asking = talker([runner])
    asking.send(1, start=True)
    await runner.finish_all()
    runner.free, runner.restarts = 0, 1
    waits = asking.send(1)
    fresh = asking.send(2, start=True)
    runner.free = 1
    await runner.finish_all()
    assert str(asking.answer(waits)) == "the worker that knew the sequence has ended"
    assert asking.sum(fresh) == 1
    assert list(asking.batcher.table.sequences) == [2]


@on_loop
async def test_what_starts_anew_does_not_miss_what_a_worker_knew() -> None:
    runner = Runner(compute=Accumulators())
    asking = talker([runner])
    for id in (1, 2):
        asking.send(id, start=True)
    await runner.finish_all()
    runner.free, runner.restarts = 0, 1
    asking.send(1, start=True, value=5)
    lost = asking.send(2)
    asking.send(2, start=True, value=7)
    runner.free = 1
    await runner.finish_all()
    assert str(asking.answer(lost)) == "the worker that knew the sequence has ended"
    assert [asking.sum(n) for n in (2, 4)] == [5, 7]


@on_loop
async def test_what_starts_anew_goes_on_where_an_instance_is_left() -> None:
    runners = [Runner(compute=accumulate), Runner(compute=accumulate)]
    asking = talker(runners, slots=1, stateful=True)
    asking.send(1, start=True)
    await runners[0].finish_all()
    runners[0].free = 0
    lost, anew = asking.send(1), asking.send(1, start=True, value=5)
    asking.batcher.listener(0)[1](BackendError("no worker"))
    await runners[1].finish_all()
    assert str(asking.answer(lost)) == "no worker"
    assert asking.sum(anew) == 5
    last = [asking.send(1), asking.send(1, start=True), asking.send(2, start=True)]
    last.append(asking.send(2, start=True))
    asking.batcher.listener(1)[1](BackendError("none at all"))
    assert [str(asking.answer(n)) for n in last] == ["none at all"] * 4
    assert asking.batcher.in_flight == 0


@on_loop
async def test_states_that_the_server_keeps_outlive_a_worker() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    asking.send(1, start=True)
    await runner.finish_all()
    asking.send(1)
    await turns()
    batch, done = runner.running.pop()
    runner.free, runner.restarts = 1, 1
    done(batch, BatchResult(None, BackendError("killed"), 1, 1, again=True))
    await turns()
    assert runner.started[-1].secluded
    await runner.finish_all()
    assert asking.sum(1) == 2


@on_loop
async def test_an_instance_that_is_gone_takes_its_sequences_and_no_more() -> None:
    runners = [Runner(compute=accumulate), Runner(compute=accumulate)]
    asking = talker(runners, slots=1, stateful=True)
    returned, gone, _ = asking.batcher.listener(0)
    for id in (1, 2, 3):
        asking.send(id, start=True)
    for runner in runners:
        runner.free = 0
    gone(BackendError("no worker"))
    assert str(asking.answer(0)) == "no worker"
    assert list(asking.batcher.table.sequences) == [2, 3]
    runners[0].free = 1
    returned()
    await runners[0].finish_all()
    assert asking.sum(2) == 1
    asking.batcher.listener(1)[1](BackendError("this one, too"))
    gone(BackendError("no worker again"))
    assert str(asking.answer(1)) == "this one, too"
    assert asking.batcher.in_flight == 0


@on_loop
async def test_when_all_are_gone_the_backlog_is_told() -> None:
    runner = Runner(compute=accumulate)
    runner.free = 0
    asking = talker([runner], slots=1, stateful=True)
    asking.send(1, start=True)
    asking.send(2, start=True)
    asking.batcher.listener(0)[1](BackendError("no worker"))
    assert [str(asking.answer(n)) for n in (0, 1)] == ["no worker", "no worker"]


@on_loop
async def test_errors_of_some_leave_the_states_of_the_rest() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    for id in (1, 2, 3):
        asking.send(id, start=True, value=id)
    await turns()
    batch, done = runner.running.pop()
    runner.free += 1
    sums = accumulate(batch.merge())[0][[0, 2]]
    done(batch, BatchResult([sums], None, 1, 1, errors={1: BackendError("mine")}))
    for id in (1, 2, 3):
        asking.send(id, value=10)
    await runner.finish_all()
    assert str(asking.answer(1)) == "mine"
    assert [asking.sum(n) for n in (0, 2, 3, 4, 5)] == [1, 3, 11, 10, 13]


@on_loop
async def test_errors_of_all_leave_their_states() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    for step in range(2):
        for id in (1, 2):
            asking.send(id, start=step == 0, value=id)
        if step == 0:
            await runner.finish_all()
    await turns()
    batch, done = runner.running.pop()
    runner.free += 1
    done(batch, BatchResult([], None, 1, 1, errors=dict.fromkeys((0, 1), BackendError("mine"))))
    for id in (1, 2):
        asking.send(id, value=10)
    await runner.finish_all()
    assert [str(asking.answer(n)) for n in (2, 3)] == ["mine", "mine"]
    assert [asking.sum(n) for n in (4, 5)] == [11, 12]


@on_loop
async def test_a_stream_that_has_begun_is_not_told_from_its_beginning_again() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    for id in (1, 2):
        asking.send(id, start=True)
    parts: list[Answer] = []
    asking.items[0].on_part = parts.append
    await turns()
    batch, done = runner.running.pop()
    assert batch.on_part is not None
    batch.on_part(StreamPart([np.ones((1, 1), np.float32)], place=0))
    runner.free += 1
    done(batch, BatchResult(None, BackendError("killed"), 1, 1, again=True))
    await runner.finish_all()
    assert len(parts) == 1
    assert str(asking.answer(0)) == "killed"
    assert asking.sum(1) == 1


@on_loop
async def test_a_state_of_another_shape_is_an_error_and_changes_nothing() -> None:
    runner = Runner(compute=accumulate)
    asking = talker([runner], stateful=True)
    asking.send(1, start=True)
    await turns()
    runner.finish(outputs=[np.zeros((1, 2), np.float32)])
    assert "returned shape [1, 2] in state output 'sum'" in str(asking.answer(0))
    asking.send(1)
    await runner.finish_all()
    assert asking.sum(1) == 1


@pytest.mark.parametrize("oldest", [True, False])
@on_loop
async def test_a_thousand_sequences_on_two_instances(oldest: bool) -> None:
    runners = [Runner(compute=accumulate), Runner(compute=accumulate)]
    asking = talker(runners, 64, oldest, stateful=True, max_waiting=3000)
    for step in range(3):
        for id in range(1000):
            asking.send(id + 1, start=step == 0, end=step == 2, value=10**step)
    while asking.batcher.in_flight:
        for runner in runners:
            await runner.finish_all()
    assert [asking.sum(n) for n in range(3000)] == [1.0] * 1000 + [11.0] * 1000 + [111.0] * 1000
    assert asking.batcher.table.sequences == {}
