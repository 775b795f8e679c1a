"""A model that answers with a stream, with Triton's clients: `Repeat` says `value` as often as it
is asked to."""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from lifecycle.process import ServerProcess, wait_until

ANSWER_S = 30.0


def inputs(value: int, times: int, wait_s: float = 0.0, module: Any = grpc) -> list[Any]:
    made = []
    for name, datatype, number in (
        ("value", "INT64", np.int64(value)),
        ("times", "INT64", np.int64(times)),
        ("wait_s", "FP64", np.float64(wait_s)),
    ):
        made.append(module.InferInput(name, [1], datatype))
        made[-1].set_data_from_numpy(np.array([number]))
    return made


class Stream:
    """A client's one stream, and what came on it."""

    def __init__(self, client: grpc.InferenceServerClient) -> None:
        self.client = client
        self.came: queue.Queue[Any] = queue.Queue()

    def take(self, result: Any, error: Any) -> None:
        self.came.put(error if error is not None else result)

    def ask(self, id: str, *asked: Any, end: bool = False) -> None:
        self.client.async_stream_infer(
            "Repeat", inputs(*asked), request_id=id, enable_empty_final_response=end
        )

    def next(self) -> Any:
        return self.came.get(timeout=ANSWER_S)


@pytest.fixture
def stream(server: ServerProcess) -> Iterator[Stream]:
    with grpc.InferenceServerClient(server.grpc) as client:
        made = Stream(client)
        client.start_stream(made.take)
        yield made
        client.stop_stream()


def told(result: Any) -> tuple[str, int | None, bool]:
    """Id, value and whether it is final."""
    response = result.get_response()
    value = result.as_numpy("output")
    final = response.parameters["triton_final_response"].bool_param
    return response.id, None if value is None else int(value[0]), final


def test_many_responses_and_the_end_where_it_is_wanted(stream: Stream) -> None:
    stream.ask("a", 7, 2, end=True)
    assert [told(stream.next()) for _ in range(3)] == [
        ("a", 7, False), ("a", 7, False), ("a", None, True),
    ]  # fmt: skip


def test_a_stream_without_responses_and_one_after_it(stream: Stream) -> None:
    stream.ask("none", 7, 0)
    stream.ask("end", 7, 0, end=True)
    assert told(stream.next()) == ("end", None, True)


def test_responses_of_several_requests_are_out_of_order(stream: Stream) -> None:
    stream.ask("slow", 1, 1, 0.5, end=True)
    stream.ask("quick", 2, 2, 0.0, end=True)
    ids = [told(stream.next())[0] for _ in range(5)]
    assert ids == ["quick"] * 3 + ["slow"] * 2


def test_an_error_has_the_id_of_its_request_and_the_stream_goes_on(stream: Stream) -> None:
    stream.ask("bad", 1, -1)
    error = stream.next()
    assert isinstance(error, InferenceServerException)
    assert "times must not be negative" in error.message()
    stream.ask("good", 5, 1)
    assert told(stream.next()) == ("good", 5, False)


def test_an_error_as_a_status_ends_the_stream(server: ServerProcess) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        made = Stream(client)
        client.start_stream(made.take, headers={"triton_grpc_error": "true"})
        made.ask("bad", 1, -1)
        error = made.next()
        assert "times must not be negative" in str(error)
        assert error.status() == "StatusCode.INTERNAL"


def test_a_client_that_cancels_ends_the_models_work(server: ServerProcess) -> None:
    before = server.statistics("Repeat")["inference_stats"]["fail"]["count"]
    with grpc.InferenceServerClient(server.grpc) as client:
        made = Stream(client)
        client.start_stream(made.take)
        made.ask("long", 1, 1_000_000, 0.01)
        made.next()
        client.stop_stream(cancel_requests=True)
    wait_until(
        lambda: server.statistics("Repeat")["inference_stats"]["fail"]["count"] == before + 1,
        "the request counted as given up",
    )


def test_aio_streams(server: ServerProcess) -> None:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            asks = inputs(number, number)
            yield {"model_name": "Repeat", "inputs": asks, "request_id": str(number)}

    async def ask() -> list[tuple[str, int | None, bool]]:
        found = []
        async with grpc_aio.InferenceServerClient(server.grpc) as client:
            async for result, error in client.stream_infer(asked()):
                assert error is None
                found.append(told(result))
        return sorted(found, key=lambda one: (one[0], one[2]))

    assert asyncio.run(ask()) == [("1", 1, False), ("2", 2, False), ("2", 2, False)]


def test_calls_of_one_answer_are_refused(server: ServerProcess) -> None:
    with grpc.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException) as raised:
            client.infer("Repeat", inputs(1, 1))
        assert "ModelInfer RPC doesn't support models with decoupled" in raised.value.message()
        assert raised.value.status() == "StatusCode.UNIMPLEMENTED"
    with http.InferenceServerClient(server.address) as client:
        with pytest.raises(InferenceServerException) as raised:
            client.infer("Repeat", inputs(1, 1, module=http))
        assert "HTTP end point doesn't support models with decoupled" in raised.value.message()


def test_responses_are_counted_by_their_place(server: ServerProcess, stream: Stream) -> None:
    def counted() -> dict[tuple[str, str], int]:
        stats = server.statistics("Repeat")["response_stats"]
        return {
            (place, end): stats.get(place, {}).get(end, {}).get("count", 0)
            for place in "012"
            for end in ("success", "fail", "empty_response", "compute_infer")
        }

    before = counted()
    stream.ask("a", 7, 2, end=True)
    for _ in range(3):
        stream.next()
    stream.ask("bad", 7, -1)
    stream.next()
    after = counted()
    more = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    assert more == {
        ("0", "success"): 1, ("0", "fail"): 1, ("0", "compute_infer"): 2, ("1", "success"): 1,
        ("1", "compute_infer"): 1, ("2", "empty_response"): 1,
    }  # fmt: skip
    found = stream.client.get_inference_statistics("Repeat").model_stats[0].response_stats
    assert found["0"].success.count == after["0", "success"]
    assert found["0"].success.ns == found["0"].compute_infer.ns + found["0"].compute_output.ns - (
        found["0"].fail.ns
    )


def test_generate(server: ServerProcess) -> None:
    asked = {"value": 5, "times": 2, "wait_s": 0.0, "id": "mine"}
    one = {"id": "mine", "model_name": "Repeat", "model_version": "1", "output": 5}
    answer = server.request("POST", "/v2/models/Repeat/generate", {**asked, "times": 1})
    assert (answer.status, answer.json()) == (200, one)
    answer = server.request("POST", "/v2/models/Repeat/generate", asked)
    assert answer.status == 400
    answer = server.request("POST", "/v2/models/Repeat/generate_stream", asked)
    assert answer.body.decode() == f"data: {json.dumps(one, separators=(',', ':'))}\n\n" * 2
