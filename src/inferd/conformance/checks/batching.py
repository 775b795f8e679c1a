"""Which requests run together, which first, and which wait too long; and ensembles of models."""

from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from inferd.conformance.check import Mismatch, becomes, check, holds, same, says
from inferd.conformance.repository import QUEUE_SIZE
from inferd.conformance.wire import Asked, Wire

AREA = "batching"
PRIORITY = "priority"
QUEUE = "queue policy"
ENSEMBLES = "ensembles"

HELD_MS = 400
"""For so long a first request holds the only instance, while others come behind it."""

BEHIND_S = 0.1


def number(result: Any) -> int:
    """The one number of an answer; raises Mismatch for an error."""
    if isinstance(result, BaseException):
        raise Mismatch("one of several requests", "an answer", f"{result}")
    return int(result.as_numpy("OUTPUT0").ravel()[0])


@check(AREA, models=("batched",))
def requests_that_wait_together_run_together(wire: Wire) -> None:
    results = wire.together(*[Asked("batched", wire.one())] * 4)
    same("the rows that ran together, of 4 requests of one row", [*map(number, results)], [4] * 4)


@check(AREA, models=("batched",))
def requests_of_several_rows_count_as_many(wire: Wire) -> None:
    results = wire.together(Asked("batched", wire.one(rows=3)), Asked("batched", wire.one()))
    same("the rows that ran together, of 3 and 1", [*map(number, results)], [4, 4])
    same("rows of the first answer", len(results[0].as_numpy("OUTPUT0")), 3)


@check(AREA, models=("add_sub",))
def each_of_many_requests_gets_its_own_answer(wire: Wire) -> None:
    def asked(value: int) -> Asked:
        given = np.full((1, 16), value, np.float32)
        inputs = [wire.tensor(f"INPUT{index}", given) for index in range(2)]
        return Asked("add_sub", inputs)

    results = wire.together(*(asked(value) for value in range(50)))
    same("twice 0 to 49", [*map(number, results)], [2 * value for value in range(50)])


@check(PRIORITY, models=("priorities",), extensions=("schedule_policy",))
def the_more_urgent_of_those_that_wait_goes_first(wire: Wire) -> None:
    results = wire.together(
        Asked("priorities", wire.one(HELD_MS)),
        Asked("priorities", wire.one(), {"priority": 2}, BEHIND_S),
        Asked("priorities", wire.one(), {"priority": 2}, BEHIND_S + 0.01),
        Asked("priorities", wire.one(), {"priority": 1}, BEHIND_S + 0.1),
    )
    first, *order = [number(result) for result in results]
    ran = sorted(range(3), key=order.__getitem__)
    # Triton may have taken one that waited out of its queue when the urgent one comes.
    holds("the order of priorities 2, 2 and, later, 1", ran.index(2) < 2,
          "1 before the second of 2", [(2, 2, 1)[place] for place in ran])  # fmt: skip
    holds("the one that held the instance", first < min(order), "first", first)


@check(PRIORITY, models=("priorities",), extensions=("schedule_policy",))
def without_a_priority_it_is_the_default(wire: Wire) -> None:
    results = wire.together(
        Asked("priorities", wire.one(HELD_MS)),
        Asked("priorities", wire.one(), {"priority": 2}, BEHIND_S),
        Asked("priorities", wire.one(), {}, BEHIND_S + 0.05),
        Asked("priorities", wire.one(), {"priority": 2}, BEHIND_S + 0.1),
    )
    order = [number(result) for result in results]
    same("the order of priorities 2, none, 2, where the default is 2", order, sorted(order))


@check(QUEUE, models=("bounded",), extensions=("schedule_policy",))
def a_full_queue_refuses(wire: Wire) -> None:
    many = 4 + 3 * QUEUE_SIZE
    later = [Asked("bounded", wire.one(), {}, BEHIND_S)] * many
    first, *rest = wire.together(Asked("bounded", wire.one(HELD_MS)), *later)
    number(first)
    errors = [one for one in rest if isinstance(one, InferenceServerException)]
    holds(f"{many} requests behind one that runs, where the queue holds {QUEUE_SIZE}",
          many - QUEUE_SIZE - 2 <= len(errors) <= many - QUEUE_SIZE,
          f"{many - QUEUE_SIZE} refused, or up to two fewer", len(errors))  # fmt: skip
    for error in errors:
        says("a full queue", wire.told("a full queue", "unavailable", error),
             "Exceeds maximum queue size")  # fmt: skip


@check(QUEUE, models=("bounded",), extensions=("schedule_policy",))
def one_that_waits_too_long_is_refused(wire: Wire) -> None:
    asked = "a timeout of 50 ms behind a request that runs for 400"
    held = Asked("bounded", wire.one(HELD_MS))
    # Two, since one may already have left the queue for the instance.
    short = Asked("bounded", wire.one(), {"timeout": 50_000}, BEHIND_S)
    first, *rest = wire.together(held, short, short)
    number(first)
    errors = [one for one in rest if isinstance(one, InferenceServerException)]
    holds(asked, errors, "an error for one at least", rest)
    for error in errors:
        says(asked, wire.told(asked, "unavailable", error), "Request timeout expired")


@check(QUEUE, models=("bounded",), extensions=("schedule_policy",))
def a_timeout_that_does_not_pass_changes_nothing(wire: Wire) -> None:
    result = wire.infer("bounded", wire.one(), timeout=10_000_000)
    holds("a timeout of 10 s", number(result) > 0, "an answer", result)


@check(ENSEMBLES, models=("chain", "add_sub"))
def an_ensemble_hands_tensors_from_model_to_model(wire: Wire) -> None:
    got = wire.infer("chain", wire.pair(2)).as_numpy("OUTPUT0")
    expected = np.arange(32, dtype=np.float32).reshape(2, 16) + 2
    same("INPUT0 + INPUT1 + INPUT1", got.tolist(), expected.tolist())


@check(ENSEMBLES, models=("chain", "add_sub"))
def an_ensemble_checks_its_inputs(wire: Wire) -> None:
    asked = "INPUT0 of shape [1,17] for an ensemble of [-1,16]"
    inputs = [wire.tensor("INPUT0", np.ones((1, 17), np.float32)), wire.pair()[1]]
    says(asked, wire.refused(asked, "invalid", "chain", inputs), "'INPUT0'", "chain")


@check(ENSEMBLES, models=("chain", "add_sub"), extensions=("statistics",))
def an_ensemble_counts_in_its_models(wire: Wire) -> None:
    def rows() -> int:
        return int(wire.statistics("add_sub")["inference_count"])

    before = rows()
    wire.infer("chain", wire.pair(2))
    becomes("rows that add_sub counts for 2 rows of chain", lambda: rows() - before, 4)
