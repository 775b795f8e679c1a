import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import Answer, queued
from inferd.batching.queue import QueuedRequest, RequestQueue, Stage
from inferd.errors import Overloaded


def test_requests_of_one_key_share_a_group_in_order_of_arrival() -> None:
    queue = RequestQueue(10)
    first, second = queued(2, "a", arrival_ns=5), queued(3, "a", arrival_ns=7)
    other = queued(1, "b", arrival_ns=6)
    for item in (first, other, second):
        queue.push(item)
    assert set(queue.groups) == {"a", "b"}
    group = queue.groups["a"]
    assert list(group.items) == [first, second]
    assert list(group.sizes()) == [2, 3]
    assert (group.rows, group.oldest_arrival_ns) == (5, 5)
    assert (queue.size, queue.rows) == (3, 6)


def test_a_full_queue_refuses_and_stays_as_it_was() -> None:
    queue = RequestQueue(2)
    queue.push(queued(4, "a"))
    queue.push(queued(1, "b"))
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        queue.push(queued(1, "c"))
    assert (queue.size, queue.rows, set(queue.groups)) == (2, 5, {"a", "b"})


def test_the_bound_counts_requests_not_rows() -> None:
    queue = RequestQueue(1)
    queue.push(queued(50))
    assert queue.rows == 50


def test_room_is_free_again_after_a_request_is_taken_or_removed() -> None:
    queue = RequestQueue(1)
    first, second = queued(), queued()
    queue.push(first)
    queue.remove(first)
    queue.push(second)
    assert queue.take((), 1) == [second]
    queue.push(queued())


def test_remove_from_the_middle_keeps_the_others_in_order() -> None:
    queue = RequestQueue(10)
    items = [queued(rows) for rows in (1, 2, 3)]
    for item in items:
        queue.push(item)
    queue.remove(items[1])
    assert list(queue.groups[()].sizes()) == [1, 3]
    assert (queue.size, queue.rows, queue.groups[()].rows) == (2, 4, 4)


def test_a_group_without_requests_is_gone() -> None:
    queue = RequestQueue(10)
    item = queued(2, "a")
    queue.push(item)
    queue.remove(item)
    assert (queue.groups, queue.size, queue.rows) == ({}, 0, 0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_take_gives_the_first_of_a_group(count: int) -> None:
    queue = RequestQueue(10)
    items = [queued(rows, "a") for rows in (1, 2, 3)]
    for item in items:
        queue.push(item)
    queue.push(queued(7, "b"))
    assert queue.take("a", count) == items[:count]
    assert queue.size == 4 - count
    assert queue.rows == 7 + sum(item.rows for item in items[count:])


def test_cancel_without_a_holder_is_harmless() -> None:
    item = queued()
    item.cancel()
    assert item.stage is Stage.QUEUED


def test_requests_that_look_alike_are_still_two() -> None:
    answers: list[Answer] = []
    queue = RequestQueue(10)
    twins = [queued(1, "a", 1.0, answers, arrival_ns=1) for _ in range(2)]
    for item in twins:
        queue.push(item)
    queue.remove(twins[0])
    assert list(queue.groups["a"].items) == [twins[1]]


Action = tuple[str, str, int]


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "remove", "take"]),
            st.sampled_from("abc"),
            st.integers(1, 5),
        ),
        max_size=60,
    )
)
def test_queue_does_what_plain_lists_would(actions: list[Action]) -> None:
    queue = RequestQueue(8)
    model: dict[str, list[QueuedRequest]] = {}
    for action, key, number in actions:
        waiting = model.setdefault(key, [])
        if action == "push":
            item = queued(number, key)
            if sum(map(len, model.values())) == 8:
                with pytest.raises(Overloaded):
                    queue.push(item)
            else:
                queue.push(item)
                waiting.append(item)
        elif not waiting:
            continue
        elif action == "remove":
            queue.remove(waiting.pop(number % len(waiting)))
        else:
            count = min(number, len(waiting))
            assert queue.take(key, count) == waiting[:count]
            del waiting[:count]
        held = {key: items for key, items in model.items() if items}
        assert {k: list(g.items) for k, g in queue.groups.items()} == held
        assert {k: g.rows for k, g in queue.groups.items()} == {
            k: sum(i.rows for i in items) for k, items in held.items()
        }
        assert queue.size == sum(map(len, held.values()))
        assert queue.rows == sum(i.rows for items in held.values() for i in items)
