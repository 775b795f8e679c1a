import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import on_loop, turns
from inferd.errors import BackendError, InvalidRequest, ModelNotFound
from inferd.protocols.grpc.inference.request_codec import HEAVY_BYTES
from inferd.protocols.grpc.inference.stream import MAX_IN_FLIGHT, MAX_WAITING, REQUEST_BYTES
from inferd.types.inference import InferenceRequest, InferenceResponse
from protocols.grpc.planes import Streaming
from protocols.grpc.wire import add_output, add_raw, add_typed, message
from protocols.streaming import until

END = "triton_enable_empty_final_response"


def ask(value: float = 1, id: str = "", **parameters: Any) -> Any:
    wire = message("m", "", id=id, parameters=parameters)
    return add_raw(wire, "x", "FP32", np.full((1, 4), value, np.float32))


def value(answer: Any) -> float:
    """The number that all elements of an answer are."""
    assert answer.error_message == ""
    (raw,) = answer.infer_response.raw_output_contents
    (number,) = set(np.frombuffer(raw, np.float32).tolist())
    return float(number)


def final(answer: Any) -> bool:
    parameter = answer.infer_response.parameters["triton_final_response"]
    assert parameter.HasField("bool_param")
    return bool(parameter.bool_param)


# -- one answer a request --------------------------------------------------------------------------


@on_loop
async def test_requests_of_a_model_that_does_not_stream(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        answers = await streaming.client.stream(ask(1, "a"), ask(2, "b"), ask(3)).rest()
        assert [value(answer) for answer in answers] == [1, 2, 3]
        assert [answer.infer_response.id for answer in answers] == ["a", "b", ""]
        assert all(final(answer) for answer in answers)
        assert {answer.infer_response.model_name for answer in answers} == {"m"}


@on_loop
async def test_a_stream_without_requests(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        assert await streaming.client.stream().rest() == []


@on_loop
async def test_the_end_of_one_answer_needs_no_telling(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        answers = await streaming.client.stream(ask(1, **{END: True})).rest()
        assert [(value(answer), final(answer)) for answer in answers] == [(1, True)]


class Reversed:
    """Ends requests of a plane in the reverse of their order."""

    def __init__(self, streaming: Streaming) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self._infer = streaming.plane.infer
        streaming.plane.infer = self.infer  # type: ignore[method-assign]

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        waits = asyncio.get_running_loop().create_future()
        self.waiting.append(waits)
        await waits
        return await self._infer(request)


@on_loop
async def test_answers_come_in_the_order_of_their_requests(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        order = Reversed(streaming)
        stream = streaming.client.stream(ask(1), ask(2), b"junk", ask(3))
        first = asyncio.ensure_future(stream.next())
        await until(lambda: len(order.waiting) == 3)  # all run at the same time
        for waits in reversed(order.waiting[1:]):
            waits.set_result(None)
        await turns(20)
        assert not first.done()
        order.waiting[0].set_result(None)
        assert value(await first) == 1
        second, junk, third = await stream.rest()
        assert [value(second), value(third)] == [2, 3]
        assert "the message is no inference.ModelInferRequest" in junk.error_message


# -- many answers a request ------------------------------------------------------------------------


@on_loop
async def test_a_model_that_streams(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        answers = await streaming.client.stream(ask(2, "a")).rest()
        assert [value(answer) for answer in answers] == [2, 4, 6]
        assert not any(final(answer) for answer in answers)


@on_loop
async def test_the_end_of_a_stream_is_told_where_it_is_wanted(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        *parts, end = await streaming.client.stream(ask(2, "a", **{END: True})).rest()
        assert [(value(part), final(part)) for part in parts] == [
            (2, False),
            (4, False),
            (6, False),
        ]
        assert final(end)
        assert not end.infer_response.outputs
        assert (end.infer_response.id, end.infer_response.model_name) == ("a", "m")


@on_loop
async def test_streams_of_several_requests_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.gate = asyncio.Event()
        stream = streaming.client.stream(ask(1, "a"), ask(10, "b"))
        firsts = {value(await stream.next()), value(await stream.next())}
        assert firsts == {1, 10}
        streaming.plane.gate.set()
        rest = await stream.rest()
        assert [value(a) for a in rest if value(a) < 10] == [2, 3]
        assert [value(a) for a in rest if value(a) >= 10] == [20, 30]


@on_loop
async def test_a_deadline_is_that_of_every_request(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.client.context.deadline_ns = 123
        await streaming.client.stream(ask(1), ask(2)).rest()
        assert [request.deadline_ns for request in streaming.plane.asked] == [123, 123]


@on_loop
async def test_a_model_that_says_which_answer_is_its_last(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.last_is_final = True
        answers = await streaming.client.stream(ask(1, "a", **{END: True})).rest()
        assert [(value(answer), final(answer)) for answer in answers] == [
            (1, False),
            (2, False),
            (3, True),
        ]


@on_loop
async def test_a_stream_may_have_no_answers(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.results = 0
        (end,) = await streaming.client.stream(ask(1, "a"), ask(1, "b", **{END: True})).rest()
        assert (end.infer_response.id, final(end), end.error_message) == ("b", True, "")


@on_loop
async def test_an_error_in_place_of_an_answer_does_not_end_its_stream(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.instead = {2: BackendError("the second one broke")}
        one, two, three = await streaming.client.stream(ask(1, "a")).rest()
        assert (value(one), value(three)) == (1, 3)
        assert (two.error_message, two.infer_response.id) == ("the second one broke", "a")
        assert not final(two)


@on_loop
async def test_an_error_in_place_of_an_answer_may_be_a_status(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.client.context.metadata[b"triton_grpc_error"] = b"true"
        streaming.plane.instead = {2: BackendError("the second one broke")}
        stream = streaming.client.stream(ask(1))
        assert value(await stream.next()) == 1
        with pytest.raises(BackendError, match="the second one broke"):
            await stream.next()


@on_loop
async def test_requests_reach_their_model_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    note = "x" * 2 * HEAVY_BYTES  # decoded on a thread
    asked = [ask(n, str(n), **({"note": note} if n % 3 == 0 else {})) for n in range(12)]
    async with Streaming(tmp_path) as streaming:
        await streaming.client.stream(*asked).rest()
        assert [request.id for request in streaming.plane.asked] == [str(n) for n in range(12)]
    async with Streaming(tmp_path, streams=False) as streaming:
        submit, ids = streaming.plane.submit, []

        def submitted(request: InferenceRequest, on_done: Any) -> Any:
            ids.append(request.id)
            return submit(request, on_done)

        streaming.plane.submit = submitted  # type: ignore[method-assign]
        await streaming.client.stream(*asked).rest()
        assert ids == [str(n) for n in range(12)]


# -- errors ----------------------------------------------------------------------------------------


@on_loop
async def test_an_error_answers_its_request_and_the_stream_goes_on(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        unknown = add_raw(message("other", "", id="b"), "x", "FP32", np.zeros((1, 4), np.float32))
        wrong = add_raw(message("m", "", id="c"), "x", "FP32", np.zeros((1, 5), np.float32))
        one, two, three, four = await streaming.client.stream(ask(1), unknown, wrong, ask(2)).rest()
        assert (value(one), value(four)) == (1, 2)
        assert two.error_message == "Request for unknown model: 'other' is not found"
        assert (two.infer_response.id, two.infer_response.model_name) == ("b", "other")
        assert three.error_message.startswith("unexpected shape for input 'x' for model 'm'")
        assert three.infer_response.id == "c"
        assert final(two)
        assert final(three)


@on_loop
async def test_a_stream_that_breaks(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.ends_with = BackendError("the model broke")
        *parts, last = await streaming.client.stream(ask(1, "a", **{END: True})).rest()
        assert [value(part) for part in parts] == [1, 2, 3]
        assert (last.error_message, last.infer_response.id) == ("the model broke", "a")
        assert final(last)


@on_loop
async def test_what_nobody_foresaw_is_an_error_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.ends_with = ZeroDivisionError()  # type: ignore[assignment]
        *_, last = await streaming.client.stream(ask(1)).rest()
        assert last.error_message == "internal error: ZeroDivisionError"
        assert "call failed" in caplog.text


@on_loop
async def test_the_first_error_may_be_a_status(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        streaming.client.context.metadata[b"triton_grpc_error"] = b"true"
        unknown = add_raw(message("other", ""), "x", "FP32", np.zeros((1, 4), np.float32))
        stream = streaming.client.stream(ask(1), unknown, ask(2))
        assert value(await stream.next()) == 1
        with pytest.raises(ModelNotFound, match="Request for unknown model: 'other' is not found"):
            await stream.next()
        with pytest.raises(StopAsyncIteration):
            await stream.next()


@on_loop
async def test_a_status_ends_what_else_runs(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.client.context.metadata[b"triton_grpc_error"] = b"true"
        streaming.plane.gate = asyncio.Event()
        stream = streaming.client.stream(ask(1))
        assert value(await stream.next()) == 1
        stream.send(b"junk")
        with pytest.raises(InvalidRequest, match="the message is no"):
            await stream.next()
        assert streaming.plane.left == 1


@on_loop
async def test_what_the_call_itself_meets_ends_it(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.gate = asyncio.Event()
        stream = streaming.client.stream(ask(1))
        assert value(await stream.next()) == 1
        stream.fail(InvalidRequest("a message over the limit"))
        with pytest.raises(InvalidRequest, match="a message over the limit"):
            await stream.next()
        assert streaming.plane.left == 1


# -- leaving ---------------------------------------------------------------------------------------


@on_loop
async def test_a_client_that_leaves_ends_what_runs(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        streaming.plane.gate = asyncio.Event()
        stream = streaming.client.stream(ask(1), ask(2))
        await stream.next()
        await stream.next()
        await stream.answers.aclose()
        assert streaming.plane.left == 2
        assert len(asyncio.all_tasks()) == 1


@on_loop
async def test_a_client_that_leaves_frees_what_waits_in_the_queue(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        streaming.lanes.pool.held = True
        stream = streaming.client.stream(ask(1), ask(2))
        waiting = asyncio.ensure_future(stream.next())
        await until(lambda: streaming.lanes.served.queue_depth() == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert streaming.lanes.served.queue_depth() == 0
        assert streaming.lanes.served.in_flight() == 0
        assert len(asyncio.all_tasks()) == 1


# -- bounds ----------------------------------------------------------------------------------------


@on_loop
async def test_so_many_requests_of_a_stream_are_in_flight(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        streaming.lanes.pool.held = True
        stream = streaming.client.stream(*[ask(n) for n in range(MAX_IN_FLIGHT + 10)])
        first = asyncio.ensure_future(stream.next())
        await until(lambda: streaming.lanes.served.queue_depth() == MAX_IN_FLIGHT)
        await turns(50)
        assert streaming.lanes.served.queue_depth() == MAX_IN_FLIGHT
        assert stream.read == MAX_IN_FLIGHT + 1  # one was read, and waits
        streaming.lanes.pool.held = False
        streaming.lanes.served.batcher.look()
        assert value(await first) == 0
        rest = await stream.rest()
        assert [value(answer) for answer in rest] == list(range(1, MAX_IN_FLIGHT + 10))


@on_loop
async def test_large_requests_of_a_stream_count_as_several(tmp_path: Path) -> None:
    note = "x" * (15 * REQUEST_BYTES)  # 16 of the 64 that may be in flight
    async with Streaming(tmp_path, streams=False) as streaming:
        streaming.lanes.pool.held = True
        stream = streaming.client.stream(*[ask(n, note=note) for n in range(5)])
        first = asyncio.ensure_future(stream.next())
        await until(lambda: streaming.lanes.served.queue_depth() == 4 and stream.read == 5)
        await turns(50)
        assert streaming.lanes.served.queue_depth() == 4
        streaming.lanes.pool.held = False
        streaming.lanes.served.batcher.look()
        assert value(await first) == 0
        assert [value(answer) for answer in await stream.rest()] == [1, 2, 3, 4]


@on_loop
async def test_a_client_that_does_not_read_holds_the_models_stream(tmp_path: Path) -> None:
    async with Streaming(tmp_path) as streaming:
        given = 0

        async def endless(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
            nonlocal given
            while True:
                given += 1
                yield InferenceResponse("m", "1", request.inputs)

        streaming.plane.stream = endless  # type: ignore[method-assign, assignment]
        stream = streaming.client.stream(ask(1))
        await stream.next()
        await turns(100)
        held = given
        assert held <= MAX_WAITING + 2
        await stream.next()
        await turns(100)
        assert given == held + 1
        await stream.answers.aclose()
        gc.collect()


@on_loop
async def test_large_typed_contents_are_read_on_a_thread(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        count = HEAVY_BYTES
        wire = add_typed(message("m", "", id="1"), "x", "FP32", (1, count), [1.0] * count)
        (answer,) = await streaming.client.stream(wire).rest()
        assert answer.error_message.startswith("unexpected shape for input 'x' for model 'm'")


@on_loop
async def test_outputs_of_a_stream_are_classified(tmp_path: Path) -> None:
    async with Streaming(tmp_path, streams=False) as streaming:
        wire = add_output(ask(1), "y", classification=1)
        (answer,) = await streaming.client.stream(wire).rest()
        (raw,) = answer.infer_response.raw_output_contents
        assert raw == b"\x0a\x00\x00\x001.000000:0"
