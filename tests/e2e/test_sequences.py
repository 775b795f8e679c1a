"""Sequences through stock clients, of a real server: ONNX accumulators, direct and oldest, with ids
that are numbers and texts."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from e2e.harness import RunningServer, eventually
from sequence_models import write_sequence_models

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("sequences")
    running = RunningServer(root / "server.log", write_sequence_models(root / "repository"))
    yield running
    running.stop()


@pytest.fixture(params=["http", "grpc"])
def client(sequences: RunningServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    module = triton if request.param == "grpc" else triton_http
    address = sequences.grpc if module is triton else sequences.url.removeprefix("http://")
    with module.InferenceServerClient(address) as made:
        made.module = module
        yield made


def x_of(array: Array, module: Any) -> Any:
    made = module.InferInput("x", list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return [made]


def ask(client: Any, model: str, id: int | str, value: float, **flags: bool) -> Any:
    shape = [1] if model == "single" else [1, 1]
    x = x_of(np.full(shape, value, np.float32), client.module)
    step = {f"sequence_{flag}": said for flag, said in flags.items()}
    return client.infer(model, x, sequence_id=id, **step)


@pytest.mark.parametrize("model", ["direct", "oldest", "single", "apart"])
def test_sequences_that_take_turns_do_not_mix(client: Any, model: str) -> None:
    ids = [1, 2**63 - 1, 77] if model != "single" else [5]
    sums = dict.fromkeys(ids, 0.0)
    for step in range(4):
        for place, id in enumerate(ids):
            value = (place + 1) * 10.0**step
            sums[id] += value
            result = ask(client, model, id, value, start=step == 0, end=step == 3)
            assert result.as_numpy("y").item() == sums[id]
            assert result.as_numpy("id").item() == id
            assert result.as_numpy("told").ravel().tolist() == [step == 0, 1, step == 3]
            assert result.as_numpy("total") is None, "a state is the server's"


def test_a_configuration_as_triton_has_it(client: Any) -> None:
    for step in range(3):
        result = ask(client, "triton", 12, 2, start=step == 0, end=step == 2)
        assert result.as_numpy("y").item() == 2 * (step + 1)
        assert result.as_numpy("id") is None


def test_ids_may_be_texts(client: Any) -> None:
    for step in range(3):
        for id in ("one", "ünit"):
            result = ask(client, "texts", id, len(id), start=step == 0, end=step == 2)
            assert result.as_numpy("y").item() == len(id) * (step + 1)
            assert result.as_numpy("id").item().decode() == id


def test_a_start_begins_anew_and_an_end_is_one(client: Any) -> None:
    assert ask(client, "oldest", 900, 5, start=True).as_numpy("y").item() == 5
    assert ask(client, "oldest", 900, 1, start=True).as_numpy("y").item() == 1
    assert ask(client, "oldest", 900, 1, end=True).as_numpy("y").item() == 2
    with pytest.raises(InferenceServerException) as error:
        ask(client, "oldest", 900, 1)
    assert error.value.message() == (
        "inference request for sequence 900 to model 'oldest' must specify the START flag on the "
        "first request of the sequence"
    )


def test_a_request_of_no_sequence(client: Any) -> None:
    with pytest.raises(InferenceServerException) as error:
        ask(client, "oldest", 0, 1, start=True)
    assert error.value.message() == (
        "inference request to model 'oldest' must specify a non-zero or non-empty correlation ID"
    )
    over_http = client.module is triton_http
    assert error.value.status() == ("400" if over_http else "StatusCode.INVALID_ARGUMENT")


def test_what_the_server_fills_is_nobodys_to_send_or_see(client: Any) -> None:
    metadata = client.get_model_metadata("direct")
    inputs, outputs = (
        ([tensor["name"] for tensor in metadata[kind]] for kind in ("inputs", "outputs"))
        if isinstance(metadata, dict)
        else ([t.name for t in tensors] for tensors in (metadata.inputs, metadata.outputs))
    )
    assert (list(inputs), list(outputs)) == (["x"], ["y", "told", "id"])
    start = client.module.InferInput("START", [1, 1], "INT32")
    start.set_data_from_numpy(np.ones((1, 1), np.int32))
    x = x_of(np.ones((1, 1), np.float32), client.module)
    with pytest.raises(InferenceServerException, match="unexpected inference input 'START'"):
        client.infer("direct", [*x, start], sequence_id=1, sequence_start=True)


def test_the_configuration_and_the_extension(sequences: RunningServer, client: Any) -> None:
    extensions = sequences.get("/v2").json()["extensions"]
    assert "sequence" in extensions
    printed = sequences.get("/v2/models/oldest/config").json()
    assert [entry["name"] for entry in printed["input"]] == ["x"]
    batching = printed["sequence_batching"]
    assert batching["oldest"]["max_candidate_sequences"] == 64
    assert batching["state"][0]["output_name"] == "total"
    assert "dynamic_batching" not in printed
    if client.module is triton:
        config = client.get_model_config("oldest").config.sequence_batching
        assert config.WhichOneof("strategy_choice") == "oldest"
        assert config.max_sequence_idle_microseconds == 60_000_000
        assert config.control_input[2].control[0].bool_false_true == [False, True]
        assert config.state[0].initial_state[0].zero_data


def test_a_state_begins_as_its_file_says_and_may_be_an_output(client: Any) -> None:
    x = x_of(np.array([[0, 100]], np.int64), client.module)
    for step in range(3):
        result = client.infer("counter", x, sequence_id="c", sequence_start=step == 0)
        assert result.as_numpy("n").tolist() == [[11 + step, 121 + step]]
        assert result.as_numpy("seen_out").tolist() == [[11 + step, 21 + step]]


@pytest.mark.parametrize("model", ["direct", "oldest", "apart"])
def test_a_stream_of_many_sequences_at_once(sequences: RunningServer, model: str) -> None:
    count, steps = 60, 6

    async def talk() -> dict[str, Any]:
        async def requests() -> Any:
            for step in range(steps):
                for id in range(1, count + 1):
                    x = x_of(np.full((1, 1), id * 10.0**step, np.float32), triton_aio)
                    yield {
                        "model_name": model, "inputs": x, "request_id": f"{id}/{step}",
                        "sequence_id": id, "sequence_start": step == 0,
                        "sequence_end": step == steps - 1,
                    }  # fmt: skip

        answers = {}
        async with triton_aio.InferenceServerClient(sequences.grpc) as client:
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                answers[result.get_response().id] = result
                if len(answers) == count * steps:
                    return answers
        raise AssertionError("the stream has ended early")

    answers = asyncio.run(talk())
    for id in range(1, count + 1):
        for step in range(steps):
            result = answers[f"{id}/{step}"]
            assert result.as_numpy("y").item() == id * int("1" * (step + 1))
            assert result.as_numpy("id").item() == id
    eventually(
        lambda: sequences.metric("inferd_active_sequences", model=model) == 0, "slots are free"
    )


def test_clients_of_both_protocols_at_once_with_more_sequences_than_slots(
    sequences: RunningServer,
) -> None:
    async def one(client: Any, id: str) -> list[float]:
        sums = []
        for step in range(5):
            x = x_of(np.full((1, 1), len(id), np.float32), triton_aio)
            result = await client.infer(
                "texts", x, sequence_id=id, sequence_start=step == 0, sequence_end=step == 4
            )
            assert result.as_numpy("id").item().decode() == id
            sums.append(result.as_numpy("y").item())
        return sums

    async def all_of_them() -> None:
        async with triton_aio.InferenceServerClient(sequences.grpc) as client:
            ids = ["s" * (n % 7 + 1) + str(n) for n in range(120)]
            for id, sums in zip(
                ids, await asyncio.gather(*[one(client, i) for i in ids]), strict=True
            ):
                assert sums == [len(id) * (step + 1) for step in range(5)]

    asyncio.run(all_of_them())


def test_the_one_slot_goes_on_to_who_waits_and_silence_frees_it(sequences: RunningServer) -> None:
    async def wait() -> None:
        async with triton_aio.InferenceServerClient(sequences.grpc) as client:
            x = x_of(np.full((1, 1), 3, np.float32), triton_aio)
            first = await client.infer("brief", x, sequence_id=1, sequence_start=True)
            assert first.as_numpy("y").item() == 3
            waiting = [
                client.infer("brief", x, sequence_id=id, sequence_start=True, sequence_end=id == 3)
                for id in (2, 3)
            ]
            answers = await asyncio.gather(*waiting)  # the first is silent: after 50 ms it is over
            assert [answer.as_numpy("y").item() for answer in answers] == [3, 3]
            with pytest.raises(InferenceServerException, match="must specify the START flag"):
                await client.infer("brief", x, sequence_id=1)

    asyncio.run(wait())
