"""Sequences: requests that belong together reach one slot of a model, in order."""

from typing import Any

from inferd.conformance.check import check, same, says
from inferd.conformance.wire import Asked, Wire

AREA = "sequences"
NEEDS: dict[str, Any] = {"models": ("accumulator",), "extensions": ("sequence",)}


def _step(wire: Wire, value: int, id: int, start: bool = False, end: bool = False) -> int:
    result = wire.infer("accumulator", wire.one(value), sequence_id=id, sequence_start=start,
                        sequence_end=end)  # fmt: skip
    return int(result.as_numpy("OUTPUT0").ravel()[0])


def _id(wire: Wire, number: int) -> int:
    return 1000 + 10 * number + (wire.name == "grpc")


@check(AREA, **NEEDS)
def a_sequence_keeps_its_state(wire: Wire) -> None:
    id = _id(wire, 1)
    got = [_step(wire, 1, id, start=True), _step(wire, 2, id), _step(wire, 3, id, end=True)]
    same("sums of 1, 2, 3", got, [1, 3, 6])


@check(AREA, **NEEDS)
def sequences_do_not_meet(wire: Wire) -> None:
    ids = [_id(wire, number) for number in (2, 3, 4)]
    first = [_step(wire, 10 * place, id, start=True) for place, id in enumerate(ids)]
    second = [_step(wire, 1, id, end=True) for id in reversed(ids)]
    same("first sums of three sequences", first, [0, 10, 20])
    same("their second sums, in the other order", second, [21, 11, 1])


@check(AREA, **NEEDS)
def a_start_begins_again(wire: Wire) -> None:
    id = _id(wire, 5)
    got = [_step(wire, 5, id, start=True), _step(wire, 7, id, start=True),
           _step(wire, 1, id, end=True)]  # fmt: skip
    same("sums of start 5, start 7, 1", got, [5, 7, 8])


@check(AREA, **NEEDS)
def a_sequence_of_one_request_starts_and_ends(wire: Wire) -> None:
    id = _id(wire, 6)
    same("sum", _step(wire, 9, id, start=True, end=True), 9)
    same("sum of the next of that id", _step(wire, 4, id, start=True, end=True), 4)


@check(AREA, **NEEDS)
def a_request_without_a_start_is_refused(wire: Wire) -> None:
    id = _id(wire, 7)
    asked = f"sequence {id}, which nothing started"
    message = wire.refused(asked, "invalid", "accumulator", wire.one(1), sequence_id=id)
    says(asked, message, f"inference request for sequence {id} to model 'accumulator' must specify",
         "the START flag on the first request of the sequence")  # fmt: skip


@check(AREA, **NEEDS)
def an_ended_sequence_has_to_start_again(wire: Wire) -> None:
    id = _id(wire, 8)
    _step(wire, 1, id, start=True, end=True)
    asked = f"sequence {id} behind its end"
    says(asked, wire.refused(asked, "invalid", "accumulator", wire.one(1), sequence_id=id), "START")


@check(AREA, **NEEDS)
def a_request_without_an_id_is_refused(wire: Wire) -> None:
    asked = "no sequence_id, on a model of sequences"
    message = wire.refused(asked, "invalid", "accumulator", wire.one(1))
    says(asked, message, "must specify a non-zero or non-empty correlation ID")


@check(AREA, **NEEDS)
def many_sequences_at_once_are_all_summed(wire: Wire) -> None:
    starts = [Asked("accumulator", wire.one(place),
                    {"sequence_id": _id(wire, 20 + place), "sequence_start": True})
              for place in range(6)]  # fmt: skip
    ends = [Asked("accumulator", wire.one(100),
                  {"sequence_id": _id(wire, 20 + place), "sequence_end": True}, 0.5)
            for place in range(6)]  # fmt: skip
    results = wire.together(*starts, *ends)
    got = [str(one) if isinstance(one, Exception) else int(one.as_numpy("OUTPUT0").ravel()[0])
           for one in results]  # fmt: skip
    same("sums of six sequences", got, [*range(6), *range(100, 106)])
