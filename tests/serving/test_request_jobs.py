"""What is told of requests that run in a worker, and what comes of each; riders came as one."""

from typing import Any

import numpy as np

from inferd.batching.queue import QueuedRequest
from inferd.errors import BackendError
from inferd.serving.request_jobs import particulars_of, result_of, rows_of
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, RequestedOutput, SequenceStep
from inferd.types.tensor import Array
from inferd.workers.memory import pack_inline
from inferd.workers.messages import Done, Packed, Particulars


def item(rows: int = 1, riders: int = 1, **said: Any) -> QueuedRequest:
    request = InferenceRequest("m", "", [], **said)
    return QueuedRequest(request, [], rows, (), None, print, 0, riders=riders)


def column(*rows: float) -> Array:
    return np.array([[row] for row in rows], np.float32)


def packed(*rows: float) -> Packed:
    return pack_inline(FP32, column(*rows))


def values(arrays: Any) -> list[list[float]]:
    return [array.ravel().tolist() for array in arrays if isinstance(array, np.ndarray)]


def test_only_what_is_said_is_told() -> None:
    items = [
        item(3, riders=3),
        item(2),
        item(id="a", parameters={"p": 1}, sequence=SequenceStep("s", end=True), priority=2,
             outputs=[RequestedOutput("y")], timeout_us=5),
    ]  # fmt: skip
    assert rows_of(items) == [1, 1, 1, 2, 1]
    assert particulars_of(items) == {4: Particulars("a", ("y",), {"p": 1}, "s", 2, 2, 5)}
    (going_on,) = particulars_of([item(sequence=SequenceStep(9))]).values()
    assert (going_on.sequence, going_on.flags) == (9, 0)
    assert type(going_on.flags) is int


def test_joined_outputs_are_those_of_the_batch() -> None:
    result = result_of(Done(1, [], {}), [item(2, riders=2), item()], [column(1, 2, 3)])
    assert (values(result.outputs), result.each, result.errors) == ([[1, 2, 3]], None, {})


def test_requests_that_all_fail_are_not_run_again() -> None:
    errors: Any = {0: BackendError("a"), 1: BackendError("b")}
    result = result_of(Done(1, [], errors, []), [item(), item()], [])
    assert (result.error, result.errors, result.each) == (None, errors, [])


def test_riders_of_whom_one_failed_come_again() -> None:
    error: Any = BackendError("second rider")
    items = [item(2, riders=2), item(2), item(2, riders=2)]
    result = result_of(Done(1, [], {1: error}), items, [column(1, 3, 4, 5, 6)])
    assert result.errors == {0: error}
    assert [values(outputs) for outputs in result.each or ()] == [[[3, 4]], [[5, 6]]]


def test_riders_whose_answers_differ_come_again() -> None:
    wide = pack_inline(FP32, np.zeros((1, 2), np.float32))
    each: Any = [[packed(1)], [wide], [packed(3)]]
    result = result_of(Done(1, [], {}, each), [item(2, riders=2), item()], [])
    assert "different shapes" in str(result.errors[0])
    assert [values(outputs) for outputs in result.each or ()] == [[[3]]]


def test_what_is_said_of_answers_beside_riders_is_kept_and_of_riders_has_them_come_again() -> None:
    each: Any = [[packed(1)], [packed(2)], [packed(3)], [packed(4)], [packed(5)]]
    said: Any = {1: {"of": "a rider"}, 2: {"of": "a lone one"}, 4: {"of": "the last"}}
    items = [item(2, riders=2), item(), item(), item()]
    error: Any = BackendError("failed")
    result = result_of(Done(1, [], {3: error}, each[:-1], parameters=said), items[:3], [])
    assert set(result.errors) == {0, 2}
    assert "say more than tensors" in str(result.errors[0])
    assert result.parameters == {0: {"of": "a lone one"}}
    result = result_of(Done(1, [], {}, each, parameters={4: {"a": 1}}), items, [])
    assert (result.errors, result.parameters) == ({}, {3: {"a": 1}})


def test_stacked_outputs_are_one_for_each_request() -> None:
    stacked: Array = np.arange(6, dtype=np.float32).reshape(2, 3)
    done = Done(1, [], {1: BackendError("no")}, stacked=True)
    result = result_of(done, [item(), item(), item()], [stacked])
    assert [values(outputs) for outputs in result.each or ()] == [[[0, 1, 2]], [[3, 4, 5]]]


def test_an_output_that_is_not_there() -> None:
    each: Any = [[None, packed(1)]]
    parameters = {0: {"a": 1}}
    result = result_of(Done(1, [], {}, each, parameters=parameters), [item()], [])
    assert result.each is not None
    assert result.each[0][0] is None
    assert result.parameters == parameters
