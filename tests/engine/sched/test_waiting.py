import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sched.sequences import ids, make, siblings
from inferd.engine.sched.sequence import Sequence
from inferd.engine.sched.waiting import WaitingQueue
from inferd.errors import Overloaded


def make_queue(max_requests: int = 100, max_prompt_tokens: int = 10_000) -> WaitingQueue:
    return WaitingQueue(max_requests, max_prompt_tokens, lambda tokens: tokens / 10)


def filled(*sequences: Sequence) -> WaitingQueue:
    queue = make_queue()
    for sequence in sequences:
        queue.push([sequence])
    return queue


def take(queue: WaitingQueue) -> Sequence:
    sequence = queue.peek()
    assert sequence is not None
    queue.take(sequence)
    return sequence


def take_all(queue: WaitingQueue) -> list[Sequence]:
    return [take(queue) for _ in range(len(queue))]


def test_first_come_first_served() -> None:
    sequences = [make(arrival_s=i) for i in range(5)]
    queue = filled(*sequences)
    assert take_all(queue) == sequences
    assert queue.peek() is None


def test_a_smaller_priority_goes_first() -> None:
    late, urgent, usual = make(priority=5), make(priority=-1), make()
    assert take_all(filled(late, urgent, usual)) == [urgent, usual, late]


def test_a_tenant_with_many_requests_does_not_hold_up_another() -> None:
    greedy = [make(10, tenant="greedy", arrival_s=i) for i in range(4)]
    modest = make(10, tenant="modest", arrival_s=9.0)
    queue = filled(*greedy, modest)
    order = []
    while len(queue):
        order.append(take(queue))
        queue.charge(order[-1], 10)
    assert order == [greedy[0], modest, *greedy[1:]]


def test_the_tenant_with_the_least_served_tokens_goes_first() -> None:
    long = [make(tenant="long", arrival_s=i) for i in range(3)]
    short = [make(tenant="short", arrival_s=i + 0.5) for i in range(6)]
    queue = filled(*long, *short)
    order = ""
    while len(queue):
        sequence = take(queue)
        order += sequence.tenant[0]
        queue.charge(sequence, 30 if sequence.tenant == "long" else 10)
    assert order == "lsss" + "lsss" + "l"


def test_a_new_tenant_neither_waits_for_the_past_nor_has_saved_up() -> None:
    queue = filled(*[make(tenant="old", arrival_s=i) for i in range(4)])
    for _ in range(2):
        queue.charge(take(queue), 100)
    new = [make(tenant="new", arrival_s=10 + i) for i in range(4)]
    for sequence in new:
        queue.push([sequence])
    order = []
    while len(queue):
        order.append(take(queue))
        queue.charge(order[-1], 100)
    assert [sequence.tenant for sequence in order] == ["new", "old", "new", "old", "new", "new"]


def test_what_running_sequences_get_counts_too() -> None:
    first, second = make(tenant="a"), make(tenant="b", arrival_s=1.0)
    queue = filled(first, second)
    queue.charge(make(tenant="a"), 1)
    assert take_all(queue) == [second, first]


def test_where_nobody_waits_the_past_is_forgotten() -> None:
    queue = filled(make(tenant="a"), make(tenant="b"))
    queue.charge(make(tenant="a"), 1000)
    take_all(queue)
    first, second = make(tenant="a", arrival_s=5.0), make(tenant="b", arrival_s=6.0)
    queue.push([first])
    queue.push([second])
    assert take_all(queue) == [first, second]


def test_tenants_that_have_gone_are_forgotten() -> None:
    queue = filled(make(tenant="stays", arrival_s=1e9), make(tenant="stays", arrival_s=1e9))
    for i in range(1000):
        sequence = make(tenant=f"t{i}")
        queue.push([sequence])
        queue.remove(sequence)
    level = queue._levels[0]
    assert len(level.served) < 100


def test_a_preempted_sequence_goes_before_all_of_its_priority() -> None:
    waiting, urgent = make(arrival_s=0.0), make(priority=-1)
    queue = filled(waiting, urgent)
    preempted = [make(arrival_s=2.0), make(arrival_s=1.0)]
    for sequence in preempted:
        sequence.num_preemptions = 1
        queue.push_preempted(sequence)
    assert take_all(queue) == [urgent, preempted[1], preempted[0], waiting]


def test_put_back_restores_the_order() -> None:
    sequences = [make(tenant="ab"[i % 2], arrival_s=i) for i in range(6)]
    queue = filled(*sequences)
    preempted = make(arrival_s=9.0)
    preempted.num_preemptions = 1
    queue.push_preempted(preempted)
    order = take_all(queue)
    for sequence in reversed(order):
        queue.put_back(sequence)
    assert take_all(queue) == order


def test_removal_from_anywhere() -> None:
    sequences = [make(arrival_s=i, priority=i % 2, tenant="ab"[i // 3]) for i in range(6)]
    queue = filled(*sequences)
    for sequence in sequences[::2]:
        queue.remove(sequence)
    assert len(queue) == 3
    assert sorted(ids(take_all(queue))) == ids(sequences[1::2])
    assert (queue.num_requests, queue.prompt_tokens) == (0, 0)


def test_bounded_by_requests() -> None:
    queue = make_queue(max_requests=2)
    queue.push(siblings(3, n=5))
    queue.push([make(3)])
    assert (len(queue), queue.num_requests, queue.prompt_tokens) == (6, 2, 6)
    with pytest.raises(Overloaded, match="2 requests") as caught:
        queue.push([make(3)])
    assert caught.value.retry_after_s == pytest.approx(0.6)
    assert len(queue) == 6


def test_bounded_by_prompt_tokens_but_takes_any_prompt_when_empty() -> None:
    queue = make_queue(max_prompt_tokens=10)
    long = make(50)
    queue.push([long])
    with pytest.raises(Overloaded):
        queue.push([make(1)])
    queue.remove(long)
    queue.push([make(6)])
    queue.push([make(4)])
    with pytest.raises(Overloaded):
        queue.push([make(1)])


def test_a_request_counts_until_its_last_sequence_is_taken() -> None:
    queue = make_queue()
    queue.push(siblings(7, n=3))
    for left in (2, 1, 0):
        assert queue.prompt_tokens == 7
        take(queue)
        assert len(queue) == left
    assert queue.prompt_tokens == 0


arrivals = st.tuples(st.just("push"), st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 9))
others = st.tuples(
    st.sampled_from(["take", "remove", "charge", "preempt"]),
    st.integers(0, 50),
    st.sampled_from("abc"),
    st.integers(1, 9),
)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.one_of(arrivals, others), max_size=60))
def test_the_first_is_the_least_by_priority_then_service(
    history: list[tuple[str, int, str, int]],
) -> None:
    queue = make_queue()
    waiting: list[Sequence] = []
    taken: list[Sequence] = []
    for number, (what, which, tenant, amount) in enumerate(history):
        if what == "push":
            waiting.append(make(amount + 1, priority=which, tenant=tenant, arrival_s=number))
            queue.push([waiting[-1]])
        elif what == "charge":
            queue.charge(make(tenant=tenant, priority=which % 3), amount)
        elif what == "preempt" and taken:
            sequence = taken.pop(which % len(taken))
            sequence.num_preemptions += 1
            queue.push_preempted(sequence)
            waiting.append(sequence)
        elif what == "remove" and waiting:
            queue.remove(waiting.pop(which % len(waiting)))
        elif what == "take" and waiting:
            first = expected_first(queue, waiting)
            assert take(queue) is first
            waiting.remove(first)
            taken.append(first)
        assert len(queue) == len(waiting)
        assert queue.prompt_tokens == sum(s.num_prompt_tokens for s in waiting)
    assert {s.id for s in take_all(queue)} == {s.id for s in waiting}


def expected_first(queue: WaitingQueue, waiting: list[Sequence]) -> Sequence:
    def key(sequence: Sequence) -> tuple[int, bool, int, float, int]:
        preempted = bool(sequence.num_preemptions)
        served = 0 if preempted else queue._levels[sequence.priority].served[sequence.tenant]
        return (sequence.priority, not preempted, served, sequence.arrival_s, sequence.id)

    return min(waiting, key=key)
