"""Every call of the Open Inference Protocol over gRPC, by stock clients, of a real server."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from e2e.harness import RunningServer
from models import mlp_answer

X = np.linspace(-1, 1, 16, dtype=np.float32)


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(name: str, array: np.ndarray[Any, Any], module: Any = triton) -> Any:
    made = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def status_of(error: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(error.value.status())


def test_both_protocols_answer_alike(server: RunningServer, client: Any) -> None:
    rows = np.stack([X, X[::-1]])
    over_grpc = client.infer("mlp", [tensor("x", rows)], request_id="r1")
    assert over_grpc.get_response().id == "r1"
    assert np.allclose(over_grpc.as_numpy("y"), mlp_answer(rows), atol=1e-6)
    with triton_http.InferenceServerClient(server.url.removeprefix("http://")) as other:
        over_http = other.infer("mlp", [tensor("x", rows, triton_http)])
    assert np.array_equal(over_grpc.as_numpy("y"), over_http.as_numpy("y"))


def test_health_metadata_and_configuration(server: RunningServer, client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.get_server_metadata().name == "inferd"
    metadata = client.get_model_metadata("mlp", as_json=True)
    assert metadata == server.get("/v2/models/mlp").json() | {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "16"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}],
    }
    config = client.get_model_config("mlp").config
    assert (config.name, config.max_batch_size, config.input[0].dims) == ("mlp", 8, [16])


def test_statistics_count_what_was_asked(server: RunningServer, client: Any) -> None:
    def count() -> int:
        (stats,) = client.get_inference_statistics("add").model_stats
        return int(stats.inference_stats.success.count)

    before = count()
    four = np.ones((1, 4), np.float32)
    client.infer("add", [tensor("a", four), tensor("b", four)])
    assert count() == before + 1
    assert server.metric(
        "inferd_grpc_calls_total", method="/inference.GRPCInferenceService/ModelInfer", status="OK"
    ) >= 1  # fmt: skip


def test_errors_have_the_codes_and_the_words(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="'nope' is not found") as error:
        client.infer("nope", [tensor("x", X[None])])
    assert status_of(error) == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="'x'") as error:
        client.infer("mlp", [tensor("x", X[None, :4])])
    assert status_of(error) == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="not allowed") as error:
        client.load_model("mlp")
    assert status_of(error) == "StatusCode.UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="--shared-memory system") as error:
        client.get_system_shared_memory_status()
    assert status_of(error) == "StatusCode.UNIMPLEMENTED"


def test_a_stream_of_calls_is_answered_in_order(client: Any) -> None:
    answers: list[Any] = []
    done = threading.Event()

    def take(result: Any, error: Any) -> None:
        answers.append(error or result.get_response().id)
        if len(answers) == 20:
            done.set()

    client.start_stream(take)
    for number in range(20):
        client.async_stream_infer("mlp", [tensor("x", X[None])], request_id=str(number))
    assert done.wait(10)
    client.stop_stream()
    assert answers == [str(number) for number in range(20)]


def test_many_at_once_by_the_asynchronous_client(server: RunningServer) -> None:
    async def ask_all() -> list[Any]:
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            rows = [X[None] * number for number in range(200)]
            asked = [client.infer("mlp", [tensor("x", row)]) for row in rows]
            answers = await asyncio.gather(*asked)
            return [
                np.allclose(answer.as_numpy("y"), mlp_answer(row), atol=1e-6)
                for answer, row in zip(answers, rows, strict=True)
            ]

    assert all(asyncio.run(ask_all()))


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_both_ways(client: Any, compression: str) -> None:
    rows = np.repeat(X[None], 8, 0)
    answer = client.infer("mlp", [tensor("x", rows)], compression_algorithm=compression)
    assert np.allclose(answer.as_numpy("y"), mlp_answer(rows), atol=1e-6)


def test_a_message_over_the_limit_is_refused(client: Any) -> None:
    huge = np.zeros((1, 17 << 20), np.float32)
    with pytest.raises(InferenceServerException, match="larger than max") as error:
        client.infer("mlp", [tensor("x", huge)])
    assert status_of(error) == "StatusCode.RESOURCE_EXHAUSTED"


def test_unknown_methods_and_metadata(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/Nope")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=5)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.value.details() == (
            "unknown method Nope for service inference.GRPCInferenceService"
        )
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        answer, ended = live.with_call(b"", metadata=[("x-request-id", "mine-7")], timeout=5)
        assert answer == b"\x08\x01"
        assert ("x-request-id", "mine-7") in [tuple(pair) for pair in ended.initial_metadata()]


def test_http_1_on_this_port_is_told_where_to_go(server: RunningServer) -> None:
    host, _, port = server.grpc.partition(":")
    import http.client

    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.request("GET", "/v2")
    answer = connection.getresponse()
    assert answer.status == 400
    text = answer.read().decode()
    assert "gRPC over HTTP/2" in text
    assert f"port {server.port}" in text
    connection.close()
