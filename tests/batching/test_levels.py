from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import queued
from inferd.batching.levels import MOST_DEPTHS, LevelledQueue, Levels
from inferd.batching.queue import QueuedRequest, QueueOptions
from inferd.errors import Overloaded

BOUND = QueueOptions(4)
THREE = Levels(BOUND, 3, 2, {1: QueueOptions(2, delay=True)})


def ids(items: list[QueuedRequest]) -> list[str]:
    return [item.request.id for item in items]


@pytest.mark.parametrize(
    ("priority", "level"), [(0, 2), (1, 1), (2, 2), (3, 3), (4, 2), (1 << 63, 2)]
)
def test_a_priority_that_there_is_not_is_the_default_as_tritons(priority: int, level: int) -> None:
    assert THREE.level(priority) == level


def test_each_level_is_treated_by_its_own_policy_or_the_default_one() -> None:
    assert THREE.of(1).max_queue_size == 2
    assert THREE.of(3) is THREE.of(0) is BOUND


def test_without_priorities_all_are_on_one_level() -> None:
    levels = Levels(BOUND)
    assert {levels.level(priority) for priority in range(5)} == {0}
    assert LevelledQueue(levels).depths() == {}


def test_the_more_urgent_goes_first_and_within_a_level_who_came_first() -> None:
    queue = LevelledQueue(THREE)
    for value, priority in enumerate((3, 0, 1, 2, 3, 1)):
        queue.push(queued(value=value, priority=priority))
    assert ids(queue.take((), 3)) == ["2", "5", "1"]
    assert queue.depths() == {1: 0, 2: 1, 3: 2}
    assert ids(queue.take((), 3)) == ["3", "0", "4"]
    assert (queue.size, queue.rows, queue.groups) == (0, 0, {})


def test_what_is_put_off_goes_behind_its_level_and_before_the_next() -> None:
    queue = LevelledQueue(THREE)
    items = [queued(value=value, priority=value // 2 + 1) for value in range(4)]
    for item in items:
        queue.push(item)
    queue.delay(items[0])
    assert ids(queue.take((), 4)) == ["1", "0", "2", "3"]


def test_a_level_is_bounded_with_what_it_has_put_off() -> None:
    queue = LevelledQueue(THREE)
    items = [queued(priority=1) for _ in range(2)]
    for item in items:
        queue.push(item)
    queue.delay(items[0])
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        queue.push(queued(priority=1))
    queue.push(queued(priority=2))
    queue.remove(items[0])
    queue.push(queued(priority=1))
    assert queue.depths() == {1: 2, 2: 1, 3: 0}


def test_the_bound_counts_riders_and_not_rows() -> None:
    queue = LevelledQueue(Levels(QueueOptions(4)))
    riders = queued(rows=3)
    riders.riders = 3
    queue.push(riders)
    queue.push(queued(rows=50))
    assert (queue.size, queue.rows) == (4, 53)
    with pytest.raises(Overloaded):
        queue.push(queued())


def test_the_group_of_the_most_urgent_has_its_turn_first_and_then_the_oldest() -> None:
    queue = LevelledQueue(THREE)
    for key, priority, arrival_ns in (("a", 2, 5), ("b", 3, 1), ("c", 2, 4), ("b", 2, 9)):
        queue.push(queued(key=key, priority=priority, arrival_ns=arrival_ns))
    groups = queue.groups
    assert sorted(groups, key=lambda key: groups[key].turn) == ["c", "a", "b"]
    assert [groups[key].oldest_arrival_ns for key in "abc"] == [5, 1, 4]


def test_depths_of_very_many_levels_are_told_of_the_most_urgent() -> None:
    queue = LevelledQueue(Levels(BOUND, 1 << 60, 1))
    queue.push(queued(priority=1 << 59))
    assert list(queue.depths()) == list(range(1, MOST_DEPTHS + 1))
    assert queue.size == 1


Action = tuple[str, str, int, int]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "push", "remove", "delay", "take"]),
            st.sampled_from("ab"),
            st.integers(0, 4),
            st.integers(1, 4),
        ),
        max_size=60,
    )
)
def test_nothing_is_lost_and_all_goes_in_order_of_levels(actions: list[Action]) -> None:
    queue = LevelledQueue(THREE)
    waiting: list[tuple[int, bool, int, QueuedRequest]] = []  # sorted as they are to run
    for number, (action, key, priority, count) in enumerate(actions):
        level = THREE.level(priority)
        own = [entry for entry in waiting if entry[3].key == key]
        if action == "push":
            item = queued(count, key, value=number, priority=priority)
            if sum(entry[0] == level for entry in waiting) == THREE.of(priority).max_queue_size:
                with pytest.raises(Overloaded):
                    queue.push(item)
            else:
                queue.push(item)
                waiting.append((level, False, number, item))
        elif action == "take" and own:
            taken = own[: min(count, len(own))]
            assert ids(queue.take(key, len(taken))) == ids([entry[3] for entry in taken])
            waiting = [entry for entry in waiting if entry not in taken]
        elif action != "take" and own:
            entry = own[count % len(own)]
            waiting.remove(entry)
            if action == "remove":
                queue.remove(entry[3])
            elif not entry[1]:
                queue.delay(entry[3])
                waiting.append((entry[0], True, number, entry[3]))
            else:
                waiting.append(entry)
        waiting.sort(key=lambda entry: entry[:3])
        check(queue, waiting)
    assert ids(sorted(queue.clear(), key=lambda item: item.request.id)) == sorted(
        ids([entry[3] for entry in waiting])
    )
    assert (queue.size, queue.rows, queue.groups) == (0, 0, {})


def check(queue: LevelledQueue, waiting: list[tuple[int, bool, int, QueuedRequest]]) -> None:
    items = [entry[3] for entry in waiting]
    assert queue.size == len(items)
    assert queue.rows == sum(item.rows for item in items)
    levels = [entry[0] for entry in waiting]
    assert queue.depths() == {level: levels.count(level) for level in (1, 2, 3)}
    groups = queue.groups
    for key, group in groups.items():
        own = [item.rows for item in items if item.key == key]
        assert list(group.sizes()) == own
        assert group.rows == sum(own)
    for before, after in pairwise(sorted(group.turn for group in groups.values())):
        assert before <= after
    assert set(groups) == {item.key for item in items}
