"""Jobs of a TritonPythonModel: requests as views, answers returned or sent, and their end."""

from typing import Any

import numpy as np
import pytest

from inferd.batching.layout import InputLayout, OutputLayout
from inferd.errors import BackendError, ModelNotFound
from inferd.processes.frames import frame
from inferd.types.datatype import FP32, INT32
from inferd.types.tensor import Array
from inferd.workers.jobs import PARTS_AHEAD
from inferd.workers.memory import Window, create_memory, unpack
from inferd.workers.messages import Ask, Done, Part, Particulars, Run
from inferd.workers.triton.call import Call
from inferd.workers.triton.error import TritonError, TritonModelException
from inferd.workers.triton.flow import Flow
from inferd.workers.triton.request import InferenceRequest
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.streamed_call import StreamedCall
from inferd.workers.triton.tensor import Tensor
from inferd.workers.triton.terms import Given, Made, Terms

Y, Z = Made("y", FP32), Made("z", INT32)
TERMS = Terms("m", 3, [Given("x", FP32)], [Y, Z], {"y": 0, "z": 1}, True)
UNBATCHED = Terms("m", 1, [Given("x", FP32)], [Y], {"y": 0}, False)


@pytest.fixture(scope="module")
def window() -> Window:
    return Window(create_memory(), 0, True)


class Job:
    """A Call, and what it has told."""

    def __init__(self, rows: list[int], terms: Terms = TERMS, stacked: bool = False) -> None:
        shape = (len(rows), 2) if stacked else (sum(rows), 2)
        self.x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        said = {1: Particulars("second", ("z",), {"a": 1}, 7, 1)}
        self.run = Run(1, 0, "predict", [], rows, [], stacked, said)
        self.ends: list[Call] = []
        self.dropped: list[Call] = []
        self.call: Any = Call(terms, self.run, [self.x], self.ends.append, self.dropped.append)


def response(*values: float, y: bool = True, z: bool = True, **more: Any) -> InferenceResponse:
    tensors = []
    if y:
        tensors.append(Tensor("y", np.array([values], np.float32)))
    if z:
        tensors.append(Tensor("z", np.array([values], np.int32)))
    return InferenceResponse(tensors, **more)


def arrays(done: Done) -> list[list[Array]]:
    return [[unpack(p, None, True) for p in each if p is not None] for each in done.each or []]


def test_requests_are_views_of_what_came_together() -> None:
    job = Job([1, 2, 1])
    inputs = [request.inputs()[0].as_numpy() for request in job.call.requests()]
    assert [len(array) for array in inputs] == [1, 2, 1]
    assert all(np.shares_memory(array, job.x) for array in inputs)
    assert inputs[2].tolist() == [[6, 7]]


def test_requests_of_a_model_without_batching() -> None:
    requests = Job([1, 1], stacked=True).call.requests()
    assert [request.inputs()[0].as_numpy().tolist() for request in requests] == [[0, 1], [2, 3]]


def test_what_requests_say() -> None:
    first, second = Job([1, 1]).call.requests()
    assert (first.request_id(), first.correlation_id(), first.parameters()) == ("", 0, "{}")
    assert first.requested_output_names() == ["y", "z"]
    assert (second.request_id(), second.correlation_id(), second.flags()) == ("second", 7, 1)
    assert (second.requested_output_names(), second.parameters()) == (["z"], '{"a": 1}')
    assert (second.model_name(), second.model_version()) == ("m", 3)
    assert not second.is_cancelled()


def test_answers_are_joined(window: Window) -> None:
    job = Job([1, 1, 1])
    job.run.particulars.clear()
    for index in range(3):
        assert job.ends == []
        job.call.answer(index, response(index, 5))
    done = job.ends[0].done(window)
    y, z = [unpack(packed, window, True) for packed in done.outputs]
    assert y.tolist() == [[0, 5], [1, 5], [2, 5]]
    assert z.dtype == np.int32


def test_answers_that_are_not_alike_go_by_themselves(window: Window) -> None:
    job = Job([1, 1, 1])
    job.call.answer(0, response(1, 2))
    job.call.answer(1, response(1, 2))  # asks for z alone
    error = TritonError("gone", TritonError.NOT_FOUND)
    job.call.answer(2, InferenceResponse(error=error))
    done = job.ends[0].done(window)
    assert [len(each) for each in arrays(done)] == [2, 1]
    assert isinstance(done.errors[2], ModelNotFound)


def test_stacked_answers(window: Window) -> None:
    job = Job([1, 1], UNBATCHED, stacked=True)
    job.run.particulars.clear()
    for index in range(2):
        job.call.answer(index, response(index, z=False))
    done = job.ends[0].done(window)
    assert done.stacked
    assert unpack(done.outputs[0], window, True).shape == (2, 1, 1)


def test_stacked_requests_that_are_run_alone_are_answered_alone(window: Window) -> None:
    job = Job([1, 1], UNBATCHED, stacked=True)
    job.run.particulars.clear()
    for index, request in enumerate(job.call.requests()):
        assert not job.call.answer_all([request], [response(index, z=False)])
        job.call.answer(index, response(index, z=False))
    y = unpack(job.ends[0].done(window).outputs[0], window, True)
    assert y.tolist() == [[[0]], [[1]]]


def test_outputs_come_in_the_configured_datatype(window: Window) -> None:
    job = Job([1])
    job.call.answer(0, InferenceResponse([Tensor("y", np.array([[1.5]], np.float64))]))
    (only,) = arrays(job.ends[0].done(window))
    assert only[0].dtype == np.float32
    job = Job([1])
    job.call.answer(0, InferenceResponse([Tensor("z", np.array([[1.5]], np.float32))]))
    assert "'z' is TYPE_FP32, but its configuration says TYPE_INT32" in str(
        job.ends[0].done(window).errors[0]
    )


def test_outputs_that_nobody_knows_are_left_out(window: Window) -> None:
    job = Job([1])
    job.call.answer(0, InferenceResponse([Tensor("other", np.zeros(1, np.float32))]))
    assert arrays(job.ends[0].done(window)) == [[]]


def test_a_sender_answers_once() -> None:
    job = Job([1])
    sender = job.call.sender(0)
    with pytest.raises(TritonModelException, match="complete final before sending"):
        sender.send(flags=1)
    sender.send(response(1))
    assert job.ends == [job.call]
    with pytest.raises(TritonModelException, match="closed"):
        sender.send(response(1))
    sender.send(flags=1)


def test_a_request_that_is_let_go_of_is_told() -> None:
    job = Job([1, 1])
    job.call.answer(0, response(1))
    call, job.call = job.call, None
    del call
    (dropped,) = job.dropped
    dropped.fail(BackendError("dropped"))
    assert job.ends == [dropped]


def test_only_an_iterative_sequence_comes_again(window: Window) -> None:
    job = Job([1])
    job.call.repeat(0)
    assert "iterative_sequence" in str(job.ends[0].done(window).errors[0])
    iterative = Terms("m", 1, [Given("x", FP32)], [Y, Z], {"y": 0, "z": 1}, True, True)
    job = Job([1, 1], iterative)
    job.call.repeat(1)
    job.call.answer(0, response(4, 4))
    done = job.ends[0].done(window)
    assert (done.reschedule, done.errors) == ((1,), {})
    assert unpack(done.outputs[0], window, True).tolist() == [[4, 4]]


def test_a_request_that_comes_again_takes_no_more_answers() -> None:
    iterative = Terms("m", 1, [Given("x", FP32)], [Y, Z], {"y": 0, "z": 1}, True, True)
    job = Job([1, 1], iterative)
    job.call.repeat(0)
    with pytest.raises(TritonModelException, match="cannot send more than one"):
        job.call.sender(0).send(response(1, 1))
    job.call.fail_one(0, BackendError("raised"))
    assert job.ends == []
    job.call.answer(1, response(1, 1))
    assert job.ends == [job.call]


def test_each_request_sees_whether_somebody_waits_for_it() -> None:
    job = Job([1, 1, 1])
    requests = job.call.requests()
    job.call.leave(1)
    assert [request.is_cancelled() for request in requests] == [False, True, False]
    assert job.call.sender(1).is_cancelled()
    job.call.leave()
    assert all(request.is_cancelled() for request in requests)
    job.call.fail(BackendError("over"))


def test_parameters_go_by_place_among_those_that_did_not_fail(window: Window) -> None:
    job = Job([1, 1])
    job.call.answer(0, InferenceResponse(error="no"))
    job.call.answer(1, response(1, parameters={"a": True}))
    done = job.ends[0].done(window)
    assert done.parameters == {0: {"a": True}}
    with pytest.raises(TritonModelException, match="bool/int/str"):
        response(1, parameters={"a": [1]})


def test_scalars_of_numpy_cross_as_plain_values() -> None:
    said = response(1, parameters={"a": np.float64(1.5), "b": np.str_("c")}).said or {}
    assert [type(value) for value in said.values()] == [float, str]
    request = InferenceRequest(
        model_name="m", flags=np.int64(1), timeout=np.int32(4), correlation_id=True
    )  # type: ignore[arg-type]
    frame(Ask(1, "m", "predict", {}, "", False, particulars=request.said))
    assert (request.flags(), request.timeout(), request.correlation_id()) == (1, 4, 1)


# -- shapes ------------------------------------------------------------------------------------


def reshaped(batched: bool = True) -> Terms:
    """Of a model that has as [2, n] what its clients have as [n, 1, 2] and [1, 2, n]."""
    x = Given("x", FP32, InputLayout((-1, 1, 2), (2, -1)))
    y = Made("y", FP32, OutputLayout("y", (1, 2, -1), (2, -1)))
    return Terms("m", 1, [x], [y], {"y": 0}, batched)


def call_of(terms: Terms, run: Run, x: Array) -> tuple[Call, list[Call]]:
    ends: list[Call] = []
    return Call(terms, run, [x], ends.append, ends.append), ends


def test_a_request_has_its_own_of_several_shapes() -> None:
    shapes = {0: [(1, 3), (2, 2), (1, 0)]}
    run = Run(1, 0, "predict", [], [1, 2, 1], [], shapes=shapes)
    x = np.arange(7, dtype=np.float32)
    call, _ = call_of(TERMS, run, x)
    arrays = [request.inputs()[0].as_numpy() for request in call.requests()]
    assert [array.tolist() for array in arrays] == [[[0, 1, 2]], [[3, 4], [5, 6]], [[]]]
    assert np.shares_memory(arrays[1], x)
    call.fail(BackendError("over"))


@pytest.mark.parametrize("given", [(2, 2, 3), (2, 1, 2, 3)])
def test_a_model_has_shapes_of_its_own(window: Window, given: tuple[int, ...]) -> None:
    """What it returns in the shape of its clients is as good."""
    run = Run(1, 0, "predict", [], [2], [])
    call, ends = call_of(reshaped(), run, np.zeros((2, 3, 1, 2), np.float32))
    (request,) = call.requests()
    assert request.inputs()[0].shape() == [2, 2, 3]
    y = InferenceResponse([Tensor("y", np.ones(given, np.float32))])
    assert not call.answer_all([request], [y])
    call.answer(0, y)
    assert ends[0].done(window).outputs[0].shape == (2, 1, 2, 3)


def test_shapes_of_a_model_without_batching(window: Window) -> None:
    run = Run(1, 0, "predict", [], [1, 1], [], stacked=True)
    call, ends = call_of(reshaped(False), run, np.zeros((2, 3, 1, 2), np.float32))
    for index, request in enumerate(call.requests()):
        assert request.inputs()[0].shape() == [2, 3]
        call.answer(index, InferenceResponse([Tensor("y", np.ones((2, 3), np.float32))]))
    assert ends[0].done(window).outputs[0].shape == (2, 1, 2, 3)


def test_a_shape_that_is_nobodys_is_an_error(window: Window) -> None:
    run = Run(1, 0, "predict", [], [1], [])
    call, ends = call_of(reshaped(), run, np.zeros((1, 3, 1, 2), np.float32))
    call.answer(0, InferenceResponse([Tensor("y", np.ones((1, 5), np.float32))]))
    assert "'y' (without the batch), which its reshape says is [2, -1]" in str(
        ends[0].done(window).errors[0]
    )


# -- streams -----------------------------------------------------------------------------------


class Stream(Job):
    """A StreamedCall, and what it has told."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(rows)
        self.told: list[Part | Done] = []
        self.flow = Flow(self.told.append)
        self.call = StreamedCall(TERMS, self.run, [self.x], self.dropped.append, self.flow)


def test_a_stream_of_some_outputs_and_errors() -> None:
    stream = Stream([1])
    sender = stream.call.sender(0)
    sender.send(response(1, z=False))
    sender.send(InferenceResponse(error="in between"))
    sender.send(response(2), flags=1)
    first, second, third, end = stream.told
    assert isinstance(first, Part)
    assert first.outputs[1] is None
    assert isinstance(second, Part)
    assert isinstance(second.error, BackendError)
    assert isinstance(third, Part)
    assert third.final
    assert end == Done(1, [], {})
    with pytest.raises(TritonModelException, match="closed"):
        sender.send(response(3))


@pytest.mark.parametrize(
    ("answer", "flags", "said"), [(None, 0, "must be provided"), (response(1), 4, "Unsupported")]
)
def test_wrong_sends(answer: InferenceResponse | None, flags: int, said: str) -> None:
    with pytest.raises(TritonModelException, match=said):
        Stream([1]).call.sender(0).send(answer, flags)


def test_a_sender_never_waits_for_the_reader() -> None:
    stream = Stream([1])
    sender = stream.call.sender(0)
    for number in range(2 * PARTS_AHEAD):
        sender.send(response(number))
    sender.send(flags=1)
    assert len(stream.told) == PARTS_AHEAD
    stream.flow.took(PARTS_AHEAD)
    assert len(stream.told) == 2 * PARTS_AHEAD + 1
    assert isinstance(stream.told[-1], Done)


def test_a_cancelled_stream_ends_when_its_sender_does() -> None:
    stream = Stream([1])
    sender = stream.call.sender(0)
    for number in range(2 * PARTS_AHEAD):
        sender.send(response(number))
    stream.flow.cancel()
    assert sender.is_cancelled()
    sender.send(response(1))
    assert len(stream.told) == PARTS_AHEAD
    sender.send(flags=1)
    assert isinstance(stream.told[-1], Done)


def test_a_job_of_several_streams_ends_with_the_last() -> None:
    stream = Stream([1, 1])
    stream.call.sender(1).send(response(1), flags=1)
    assert isinstance(stream.told[-1], Part)
    assert stream.told[-1].request == 1
    stream.call.fail(BackendError("raised"))
    end = stream.told[-1]
    assert isinstance(end, Done)
    assert list(end.errors) == [0]


def test_what_execute_returns_is_taken_whole_or_not_at_all(window: Window) -> None:
    job = Job([1, 1])
    job.run.particulars.clear()
    requests = job.call.requests()
    assert not job.call.answer_all(requests, [response(1), InferenceResponse(error="no")])
    assert not job.call.answer_all(requests, [response(1), response(2, z=False)])
    assert not job.call.answer_all(requests, [response(1), response(2, parameters={"a": 1})])
    assert job.ends == []
    assert job.call.answer_all(requests, [response(1), response(2)])
    y, z = [unpack(packed, window, True) for packed in job.ends[0].done(window).outputs]
    assert (y.tolist(), z.tolist()) == ([[1], [2]], [[1], [2]])
