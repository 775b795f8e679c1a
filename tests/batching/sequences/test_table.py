import pytest

from batching.sequences.asking import item_of
from inferd.batching.sequences.sequence import Sequence
from inferd.batching.sequences.table import SequenceTable, UnknownSequence


def admitted(table: SequenceTable, id: int, **flags: bool) -> Sequence:
    return table.admit(item_of(id, **flags))


def run(table: SequenceTable, sequence: Sequence, now_ns: int = 0) -> list[int | str]:
    """Run its first request; the ids of those that have got a slot by its end."""
    table.begin(sequence)
    return [placed.id for placed in table.finish(sequence, now_ns)]


def test_slots_are_the_lowest_of_each_instance_in_turn() -> None:
    table = SequenceTable(2, 2, 100, 10)
    placed = [admitted(table, id, start=True) for id in range(1, 6)]
    assert [(s.slot, s.instance) for s in placed] == [(0, 0), (0, 1), (1, 0), (1, 1), (-1, -1)]
    assert (table.active, list(table.backlog)) == (4, [placed[4]])


def test_a_slot_that_is_free_goes_to_who_has_waited_longest() -> None:
    table = SequenceTable(1, 1, 100, 10)
    first = admitted(table, 1, start=True, end=True)
    for id in (2, 3):
        admitted(table, id, start=True, end=True)
    assert run(table, first) == [2]
    assert run(table, table.sequences[2]) == [3]
    assert run(table, table.sequences[3]) == []
    assert table.sequences == {}


def test_silence_is_counted_from_the_end_of_the_last_request() -> None:
    table = SequenceTable(1, 2, 100, 10)
    first, second = (admitted(table, id, start=True) for id in (1, 2))
    assert table.expires_ns() == 0
    run(table, second, 1000)
    run(table, first, 1050)
    assert table.expires_ns() == 1100
    table.expire(1099)
    assert set(table.sequences) == {1, 2}
    table.expire(1100)
    assert set(table.sequences) == {1}
    admitted(table, 1)
    assert table.expires_ns() == 0, "something waits"
    run(table, first, 2000)
    assert table.expires_ns() == 2100


def test_who_waits_for_a_slot_is_not_silent() -> None:
    table = SequenceTable(1, 1, 100, 10)
    run(table, admitted(table, 1, start=True), 0)
    admitted(table, 2, start=True)
    assert [placed.id for placed in table.expire(10**9)] == [2]


def test_slots_of_an_instance_that_is_away_are_given_to_nobody() -> None:
    table = SequenceTable(2, 1, 100, 10)
    lost = admitted(table, 1, start=True)
    table.retire(0)
    ended, placed = table.abandon(lost)
    assert (len(ended), placed, table.waiting) == (1, [], 0)
    assert table.has_instances
    kept, waits = (admitted(table, id, start=True) for id in (2, 3))
    assert (kept.instance, waits.instance) == (1, -1)
    assert [s.id for s in table.restore(0)] == [3]
    assert waits.instance == 0
    assert table.restore(0) == []


def test_an_end_behind_an_end_needs_a_start() -> None:
    table = SequenceTable(1, 1, 100, 10)
    admitted(table, 1, start=True, end=True)
    with pytest.raises(UnknownSequence):
        admitted(table, 1, end=True)
    assert admitted(table, 1, start=True) is table.sequences[1]
    assert not admitted(table, 1).closed
