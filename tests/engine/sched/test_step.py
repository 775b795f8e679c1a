import math

import pytest

from engine.sched.sequences import amounts, ids, make, make_scheduler, run, siblings
from inferd.engine.sched.scheduler import Scheduler
from inferd.engine.sched.sequence import RUNNING, WAITING
from inferd.engine.sched.step_time import StepCost


def test_a_long_prompt_comes_in_chunks_and_samples_at_its_end() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=16)
    sequence = make(40)
    scheduler.add(sequence)
    seen = []
    while not sequence.num_output_tokens:
        output, _ = run(scheduler)
        seen += [(e.start, e.num_tokens, e.samples) for e in output.sequences]
    assert seen == [(0, 16, False), (16, 16, False), (32, 8, True)]


def test_decode_rows_come_first_and_prompts_take_the_time_that_is_left() -> None:
    cost = StepCost(20e-3, 1e-3, 1e-9, 1e-3, 1e-9)
    scheduler = make_scheduler(inter_token_target_s=0.1, cost=cost)
    decoding = [make(3) for _ in range(4)]
    for sequence in decoding:
        scheduler.add(sequence)
    run(scheduler)
    long = make(180)
    scheduler.add(long)
    output, _ = run(scheduler)
    assert amounts(output) == {**dict.fromkeys(ids(decoding), 1), long.id: 75}
    assert scheduler.step_time.predict(output.load) <= 0.1


def test_without_decode_rows_the_chunk_is_large() -> None:
    scheduler = make_scheduler(inter_token_target_s=1e-3, max_num_batched_tokens=150)
    long = make(180)
    scheduler.add(long)
    output, _ = run(scheduler)
    assert amounts(output) == {long.id: 150}


def test_without_a_target_the_chunk_is_large_beside_decode_rows() -> None:
    scheduler = make_scheduler(inter_token_target_s=math.inf, max_num_batched_tokens=150)
    decoding, long = make(3), make(180)
    scheduler.add(decoding)
    run(scheduler)
    scheduler.add(long)
    output, _ = run(scheduler)
    assert amounts(output) == {decoding.id: 1, long.id: 149}


def test_a_prompt_gets_on_even_if_decode_rows_take_all_the_time() -> None:
    scheduler = make_scheduler(inter_token_target_s=1e-6, min_prefill_chunk=6)
    decoding, long, other = make(3), make(50), make(60)
    scheduler.add(decoding)
    run(scheduler)
    scheduler.add(long)
    scheduler.add(other)
    output, _ = run(scheduler)
    assert amounts(output) == {decoding.id: 1, long.id: 6}


def test_the_shortest_remaining_prompt_goes_first() -> None:
    cost = StepCost(1e-3, 1e-3, 1e-9, 1e-3, 1e-9)
    scheduler = make_scheduler(max_num_batched_tokens=20, cost=cost)
    long, short = make(100), make(15)
    scheduler.add(long)
    run(scheduler)
    scheduler.add(short)
    output, _ = run(scheduler)
    assert amounts(output) == {short.id: 15, long.id: 5}


def test_a_prompt_that_has_waited_long_goes_before_a_shorter_one() -> None:
    cost = StepCost(1e-3, 1e-3, 1e-9, 1e-3, 1e-9)
    scheduler = make_scheduler(max_num_batched_tokens=20, cost=cost)
    long, short = make(100, arrival_s=0.0), make(15, arrival_s=5.0)
    scheduler.add(long)
    run(scheduler)
    scheduler.add(short)
    assert amounts(run(scheduler)[0]) == {long.id: 20}


def test_no_stream_of_short_prompts_starves_a_long_one() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=16, max_num_seqs=4)
    long = make(100, arrival_s=0.0)
    scheduler.add(long)
    now_s = 0.0
    while not long.num_output_tokens:
        now_s += 0.05
        scheduler.add(make(15, arrival_s=now_s, max_tokens=1))
        run(scheduler, now_s=now_s)
        assert now_s < 5.0


def test_so_many_prompts_at_once_are_left_in_part() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=16, max_partial_prefills=2)
    sequences = [make(40) for _ in range(4)]
    for sequence in sequences:
        scheduler.add(sequence)
    run(scheduler)
    assert ids(scheduler.running.values()) == ids(sequences[:2])


def test_any_number_of_prompts_is_computed_whole() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=32, max_partial_prefills=1)
    short = [make(5) for _ in range(5)]
    long = make(100)
    for sequence in [*short, long, make(100)]:
        scheduler.add(sequence)
    output, _ = run(scheduler)
    assert amounts(output) == {**dict.fromkeys(ids(short), 5), long.id: 7}


def test_so_many_sequences_run_at_once() -> None:
    scheduler = make_scheduler(max_num_seqs=2)
    sequences = [make(max_tokens=1) for _ in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    assert list(amounts(run(scheduler)[0])) == ids(sequences[:2])
    assert list(amounts(run(scheduler)[0])) == ids(sequences[2:])


def test_the_urgent_goes_first() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    usual, urgent = make(max_tokens=1), make(priority=-1, max_tokens=1)
    scheduler.add(usual)
    scheduler.add(urgent)
    assert list(amounts(run(scheduler)[0])) == [urgent.id]


def test_tenants_share_fairly() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    greedy = [make(5, tenant="a", arrival_s=i, max_tokens=1) for i in range(3)]
    modest = make(5, tenant="b", arrival_s=9.0, max_tokens=1)
    for sequence in [*greedy, modest]:
        scheduler.add(sequence)
    order = [next(iter(amounts(run(scheduler)[0]))) for _ in range(4)]
    assert order == [greedy[0].id, modest.id, greedy[1].id, greedy[2].id]


# -- prefixes ----------------------------------------------------------------------------------


def test_a_cached_prefix_is_not_computed_again() -> None:
    scheduler = make_scheduler()
    first, second = make(list(range(10))), make([*range(8), 99, 98])
    scheduler.add(first)
    run(scheduler)
    scheduler.add(second)
    output, _ = run(scheduler)
    assert amounts(output) == {first.id: 1, second.id: 2}
    assert second.num_cached_tokens == 8
    assert first.block_table[:2] == second.block_table[:2]


def test_who_shares_a_prefix_being_computed_waits_and_holds_up_nobody() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=16)
    first, second = make(list(range(20))), make([*range(16), 99, 98])
    other = make(3)
    for sequence in (first, second, other):
        scheduler.add(sequence)
    output, _ = run(scheduler)
    assert amounts(output) == {other.id: 3, first.id: 13}
    assert second.status is WAITING
    run(scheduler)
    output, _ = run(scheduler)
    assert amounts(output)[second.id] == 2
    assert second.num_cached_tokens == 16


def test_the_urgent_does_not_wait_for_the_prefix_of_who_is_not() -> None:
    scheduler = make_scheduler(max_num_batched_tokens=16)
    slow, urgent = make(list(range(40)), priority=1), make(list(range(40)), priority=0)
    scheduler.add(slow)
    run(scheduler)
    scheduler.add(urgent)
    run(scheduler)
    assert urgent.status is RUNNING


@pytest.mark.parametrize("caching", [True, False])
def test_siblings_share_the_full_blocks_of_their_prompt(caching: bool) -> None:
    scheduler = make_scheduler(caching=caching)
    sequences = siblings(10, n=3)
    scheduler.add(*sequences)
    assert amounts(run(scheduler)[0]) == {sequences[0].id: 10}
    assert amounts(run(scheduler)[0]) == {
        sequences[0].id: 1, sequences[1].id: 2, sequences[2].id: 2,
    }  # fmt: skip
    tables = [sequence.block_table for sequence in sequences]
    assert tables[0][:2] == tables[1][:2] == tables[2][:2]
    assert len({table[2] for table in tables}) == 3


def test_prompt_logprobs_compute_the_whole_prompt() -> None:
    scheduler = make_scheduler()
    scheduler.add(make(list(range(10))))
    run(scheduler)
    sequence = make(list(range(10)), prompt_logprobs=0)
    scheduler.add(sequence)
    assert amounts(run(scheduler)[0])[sequence.id] == 10
    assert sequence.num_cached_tokens == 0


# -- want of blocks ----------------------------------------------------------------------------


def test_admission_waits_until_the_whole_prompt_fits() -> None:
    scheduler = make_scheduler(num_blocks=10, max_num_batched_tokens=8)
    first, second = make(24, max_tokens=1), make(24)
    scheduler.add(first)
    scheduler.add(second)
    for _ in range(3):
        assert list(amounts(run(scheduler)[0])) == [first.id]
    assert list(amounts(run(scheduler)[0])) == [second.id]
    assert scheduler.num_preemptions == 0


def test_a_watermark_is_left_to_those_that_run() -> None:
    scheduler = make_scheduler(num_blocks=10, watermark=0.2)
    scheduler.add(make(12))
    scheduler.add(make(21))
    assert len(run(scheduler)[0].sequences) == 1
    alone = make_scheduler(num_blocks=10, watermark=0.2)
    alone.add(make(39))
    assert len(run(alone)[0].sequences) == 1


def crowded() -> tuple[Scheduler, list[int]]:
    """Three sequences of two full blocks each, and no block left."""
    scheduler = make_scheduler(num_blocks=6)
    sequences = [make(7, arrival_s=i, priority=[0, 1, 0][i]) for i in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    run(scheduler)
    run(scheduler)
    assert scheduler.kv_cache.pool.num_free == 0
    return scheduler, ids(sequences)


def test_for_want_of_a_block_the_worst_is_preempted() -> None:
    scheduler, (first, worst, last) = crowded()
    preempted = scheduler.running[worst]
    waiting = make(1, priority=-1)
    scheduler.add(waiting)
    output, _ = run(scheduler)
    assert output.preempted == [worst]
    assert amounts(output) == {first: 1, last: 1}
    assert waiting.status is WAITING
    assert preempted.status is WAITING
    assert preempted.num_preemptions == scheduler.num_preemptions == 1
    assert preempted.num_computed_tokens == 0
    assert preempted.num_output_tokens == 2


def test_a_preempted_sequence_goes_on_where_it_was() -> None:
    scheduler, (first, worst, last) = crowded()
    preempted = scheduler.running[worst]
    run(scheduler)
    for id in (first, last):
        scheduler.finish(id, "stop")
    output, _ = run(scheduler)
    (entry,) = output.sequences
    assert entry.sequence is preempted
    assert (entry.start, entry.num_tokens, entry.samples) == (0, 9, True)
    assert len(preempted.tokens) == 10
    assert preempted.num_cached_tokens == 0


def test_the_worst_may_be_the_one_that_needs_the_block() -> None:
    scheduler = make_scheduler(num_blocks=4)
    first, second = make(6, arrival_s=0.0), make(7, arrival_s=1.0)
    scheduler.add(first)
    scheduler.add(second)
    run(scheduler)
    run(scheduler)
    output, _ = run(scheduler)
    assert output.preempted == [second.id]
    assert amounts(output) == {first.id: 1}
