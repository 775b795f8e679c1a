import pytest

from engine.sched.sequences import EOS, amounts, ids, make, make_scheduler, run, siblings
from inferd.engine.sched.sequence import FINISHED
from inferd.engine.sched.step_time import StepCost, StepLoad
from inferd.errors import InvalidRequest, Overloaded


def test_a_sequence_from_prompt_to_end() -> None:
    scheduler = make_scheduler()
    sequence = make(6, max_tokens=3, arrival_s=1.0)
    scheduler.add(sequence)
    output, finished = run(scheduler, now_s=2.0)
    assert [(e.sequence, e.start, e.num_tokens, e.samples) for e in output.sequences] == [
        (sequence, 0, 6, True)
    ]
    assert output.load == StepLoad(prefill_tokens=6, prefill_pairs=21)
    assert not finished
    output, finished = run(scheduler, token=8, now_s=3.0)
    assert output.load == StepLoad(decode_rows=1, kv_tokens=7)
    output, finished = run(scheduler, token=9, now_s=4.0)
    assert [(f.sequence, f.reason, f.stop_reason) for f in finished] == [(sequence, "length", None)]
    assert sequence.output_token_ids == [7, 8, 9]
    assert sequence.status is FINISHED
    assert (sequence.first_scheduled_s, sequence.first_token_s) == (2.0, 2.0)
    assert scheduler.kv_cache.pool.num_free == scheduler.kv_cache.num_blocks
    assert not scheduler.has_work
    assert run(scheduler)[0].sequences == []


def test_end_tokens_and_stop_tokens_end_a_sequence() -> None:
    scheduler = make_scheduler()
    ended, stopped, ignoring = make(), make(stop_token_ids=(5,)), make(ignore_eos=True)
    for sequence in (ended, stopped, ignoring):
        scheduler.add(sequence)
    _, finished = run(scheduler, tokens={ended.id: EOS, stopped.id: 5, ignoring.id: EOS})
    assert [(f.sequence, f.reason, f.stop_reason) for f in finished] == [
        (ended, "stop", None),
        (stopped, "stop", 5),
    ]
    assert ended.tokens[-1] == EOS
    assert ids(scheduler.running.values()) == [ignoring.id]


def test_the_models_length_ends_a_sequence() -> None:
    scheduler = make_scheduler(max_model_len=8)
    sequence = make(5)
    scheduler.add(sequence)
    while scheduler.has_work:
        run(scheduler)
    assert sequence.finish_reason == "length"
    assert len(sequence.tokens) == 8


def test_the_cache_ends_a_sequence_that_fills_it() -> None:
    scheduler = make_scheduler(num_blocks=3)
    sequence = make(5)
    scheduler.add(sequence)
    while scheduler.has_work:
        run(scheduler)
    assert sequence.finish_reason == "length"
    assert len(sequence.tokens) == 12


def test_no_output_asked_for_is_none_sampled() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=8)
    sequence = make(12, max_tokens=0, prompt_logprobs=1)
    scheduler.add(sequence)
    output, finished = run(scheduler)
    assert not finished
    output, finished = run(scheduler)
    assert not output.sequences[0].samples
    assert finished[0].reason == "length"
    assert sequence.output_token_ids == []


@pytest.mark.parametrize("size", [8, 12])
def test_what_could_never_run_is_refused(size: int) -> None:
    scheduler = make_scheduler(num_blocks=2)
    with pytest.raises(InvalidRequest, match="maximum context length is 8 tokens"):
        scheduler.add(make(size))
    with pytest.raises(InvalidRequest, match="no tokens"):
        scheduler.add(make([]))
    scheduler.add(make(7, request_id="x"))
    with pytest.raises(InvalidRequest, match="in use"):
        scheduler.add(make(1, request_id="x"))
    assert scheduler.num_unfinished == 1


def test_a_full_queue_says_when_to_come_back() -> None:
    cost = StepCost(0.0, 1.0, 1e-9, 1e-3, 1e-9)
    scheduler = make_scheduler(max_waiting_requests=2, cost=cost)
    scheduler.add(make(10))
    scheduler.add(make(10))
    with pytest.raises(Overloaded) as caught:
        scheduler.add(make(10))
    assert caught.value.retry_after_s == pytest.approx(20.0, rel=0.01)
    run(scheduler)
    scheduler.add(make(10))


def test_abort_ends_all_sequences_of_a_request() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    sequences = siblings(6, n=2, request_id="r")
    other = make(6)
    scheduler.add(*sequences)
    scheduler.add(other)
    run(scheduler)
    assert scheduler.abort("r") == sequences
    assert {s.finish_reason for s in sequences} == {"abort"}
    assert scheduler.kv_cache.pool.num_free == scheduler.kv_cache.num_blocks
    assert scheduler.abort("r") == []
    assert amounts(run(scheduler)[0]) == {other.id: 6}


def test_what_ends_during_a_step_gets_no_token_from_it() -> None:
    scheduler = make_scheduler()
    sequence, other = make(6), make(6)
    scheduler.add(sequence)
    scheduler.add(other)
    output = scheduler.schedule(0.0)
    scheduler.finish(sequence.id, "stop", "END")
    assert scheduler.update(output, {sequence.id: 1, other.id: 2}, 0.0, 0.01) == []
    assert (sequence.finish_reason, sequence.stop_reason) == ("stop", "END")
    assert sequence.output_token_ids == []
    assert other.output_token_ids == [2]
    assert scheduler.finish(sequence.id, "stop") is None


def test_paused_takes_in_and_runs_nothing() -> None:
    scheduler = make_scheduler()
    running, waiting = make(), make()
    scheduler.add(running)
    run(scheduler)
    scheduler.pause()
    scheduler.add(waiting)
    assert not scheduler.has_work
    assert scheduler.schedule(0.0).sequences == []
    scheduler.resume()
    assert amounts(run(scheduler)[0]) == {running.id: 1, waiting.id: 3}


def test_draining_runs_and_takes_nothing_in() -> None:
    scheduler = make_scheduler()
    sequence = make(max_tokens=2)
    scheduler.add(sequence)
    scheduler.drain()
    with pytest.raises(Overloaded):
        scheduler.add(make())
    while scheduler.has_work:
        run(scheduler)
    assert sequence.finish_reason == "length"


def test_step_times_are_learned() -> None:
    scheduler = make_scheduler()
    scheduler.add(make(8))
    output = scheduler.schedule(0.0)
    (entry,) = output.sequences
    scheduler.update(output, {entry.sequence.id: 1}, 0.0, 3.0)
    assert scheduler.step_time.predict(output.load) == pytest.approx(3.0)
