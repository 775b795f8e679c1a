"""Models of Triton's Python backend, unchanged, asked by Triton's own clients."""

import json
import queue
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from e2e.harness import eventually
from e2e.triton_models import FORGETFUL, MODELS, write_triton_models
from lifecycle.process import ServerProcess

READY = "/v2/models/moody/ready"
FINAL = "triton_final_response"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("triton")
    write_triton_models(root / "repository")
    load = [
        word
        for name in MODELS
        if name not in ("spare", "inner", "around")
        for word in ("--load-model", name)
    ]
    process = ServerProcess(
        root / "server.log", root / "repository", "--model-control-mode", "explicit", *load
    )
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[http.InferenceServerClient]:
    with http.InferenceServerClient(server.address, concurrency=8) as found:
        yield found


@pytest.fixture(scope="module")
def calls(server: ServerProcess) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(grpc_address(server)) as found:
        yield found


def grpc_address(server: ServerProcess) -> str:
    found = re.search(r"^grpc: +(127\.0\.0\.1:\d+)$", server.log_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def given(protocol: Any, name: str, array: Any) -> Any:
    kinds = {"f": "FP32", "i": "INT32", "O": "BYTES"}
    tensor = protocol.InferInput(name, array.shape, kinds[array.dtype.kind])
    tensor.set_data_from_numpy(array)
    return tensor


def floats(*values: float) -> Any:
    return np.array([values], np.float32)


def text(value: str) -> Any:
    return np.array([value.encode()], object)


def both(server: ServerProcess) -> list[Callable[..., Any]]:
    """Asks over HTTP and over gRPC."""

    def by(protocol: Any, address: str) -> Callable[..., Any]:
        def ask(model: str, more: Any = None, **inputs: Any) -> Any:
            with protocol.InferenceServerClient(address) as client:
                tensors = [given(protocol, name, array) for name, array in inputs.items()]
                return client.infer(model, tensors, **(more or {}))

        return ask

    return [by(http, server.address), by(grpc, grpc_address(server))]


def stream(
    calls: grpc.InferenceServerClient, model: str, values: list[int], ends: bool = True
) -> list[Any]:
    """What a stream gives for one request, until its final response."""
    found: queue.Queue[Any] = queue.Queue()
    calls.start_stream(lambda result, error: found.put(error or result))
    try:
        array = np.array(values, np.int32)
        calls.async_stream_infer(
            model, [given(grpc, "IN", array)], enable_empty_final_response=ends
        )
        got = []
        while True:
            one = found.get(timeout=20)
            if isinstance(one, InferenceServerException):
                got.append(str(one))
                if len(got) >= len(values):
                    return got
                continue
            response = one.get_response()
            if response.outputs:
                got.append(one.as_numpy("OUT").tolist())
            if response.parameters[FINAL].bool_param:
                return got
    finally:
        calls.stop_stream()


def test_add_sub(server: ServerProcess) -> None:
    for ask in both(server):
        result = ask("add_sub", INPUT0=floats(1, 2, 3, 4), INPUT1=floats(1, 1, 1, 1))
        assert result.as_numpy("OUTPUT0").tolist() == [[2, 3, 4, 5]]
        assert result.as_numpy("OUTPUT1").tolist() == [[0, 1, 2, 3]]


def json_tensor(name: str, *values: float) -> dict[str, Any]:
    return {"name": name, "shape": [1, 4], "datatype": "FP32", "data": list(values)}


def test_requests_that_come_together_get_their_own_answers(server: ServerProcess) -> None:
    def ask(number: int) -> Any:
        ones = json_tensor("INPUT1", 1, 1, 1, 1)
        body = {"inputs": [json_tensor("INPUT0", *[number] * 4), ones]}
        return server.infer("add_sub", body).json()["outputs"][0]["data"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == [[n + 1.0] * 4 for n in range(200)]


def test_riders_get_their_own_answers(server: ServerProcess) -> None:
    """One input, plain requests: the express lane sends them as one."""

    def ask(number: int) -> Any:
        body = {"inputs": [json_tensor("IN", *[number] * 4)]}
        return server.infer("auto", body).json()["outputs"][0]["data"]

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(200))) == [[2.0 * n] * 4 for n in range(200)]


def test_riders_are_told_what_the_model_says(server: ServerProcess) -> None:
    with ExitStack() as stack:
        asking = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            for _ in range(32)
        ]
        for number, client in enumerate(asking):
            body = json.dumps({"inputs": [json_tensor("IN", *[number] * 4)]}).encode()
            client.sendall(
                b"POST /v2/models/saying/infer HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
        for number, client in enumerate(asking):
            whole = stack.enter_context(client.makefile("rb")).read()
            answer = json.loads(whole.partition(b"\r\n\r\n")[2])
            assert answer["parameters"] == {"said": 7}
            assert answer["outputs"][0]["data"] == [number] * 4


def test_requests_of_a_model_without_batching_get_their_own_answers(
    server: ServerProcess,
) -> None:
    def ask(number: int) -> Any:
        body = {"name": "IN", "shape": [2], "datatype": "INT32", "data": [0, number]}
        return server.infer("named", {"inputs": [body]}).json()["outputs"][0]["data"]

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(300))) == [[0, number] for number in range(300)]
    assert "ended" not in server.log_text()


def test_what_execute_raises_is_told(server: ServerProcess) -> None:
    for ask in both(server):
        with pytest.raises(InferenceServerException, match="ValueError: not a number"):
            ask("add_sub", INPUT0=floats(np.nan, 2, 3, 4), INPUT1=floats(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("INTERNAL", "500", "INTERNAL"),
        ("NOT_FOUND", "404", "NOT_FOUND"),
        ("INVALID_ARG", "400", "INVALID_ARGUMENT"),
        ("UNAVAILABLE", "503", "UNAVAILABLE"),
        ("UNSUPPORTED", "501", "UNIMPLEMENTED"),
        ("CANCELLED", "499", "CANCELLED"),
    ],
)
def test_codes_of_errors(server: ServerProcess, name: str, status: str, code: str) -> None:
    for ask, expected in zip(both(server), (status, f"StatusCode.{code}"), strict=True):
        with pytest.raises(InferenceServerException, match=f"is {name}") as raised:
            ask("errors", IN=text(name))
        assert raised.value.status() == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fewer", r"InferenceRequest\(s\) size is:1, and InferenceResponse\(s\) size is:0"),
        ("other", "Expected an 'InferenceResponse' object .* found type 'int'"),
        ("type", "output 'OUT' is TYPE_FP32, but its configuration says TYPE_INT32"),
    ],
)
def test_wrong_returns(server: ServerProcess, name: str, said: str) -> None:
    ask = both(server)[0]
    with pytest.raises(InferenceServerException, match=said):
        ask("errors", IN=text(name))


def test_an_output_that_the_model_leaves_out_is_left_out(server: ServerProcess) -> None:
    for ask in both(server):
        assert ask("errors", IN=text("none")).as_numpy("OUT") is None


def test_a_request_that_the_model_lets_go_of_ends(server: ServerProcess) -> None:
    ask = both(server)[0]
    with pytest.raises(InferenceServerException, match="let go of a request without an answer"):
        ask("forgetful", IN=np.zeros(1, np.int32))


def test_a_model_that_answers_later_is_given_more_requests(server: ServerProcess) -> None:
    ask = both(server)[1]

    def total(value: int) -> list[int]:
        found: list[int] = ask("pairs", IN=np.array([value], np.int32)).as_numpy("OUT").tolist()
        return found

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(total, (3, 3, 3, 3))] == [[6]] * 4


def test_strings_and_what_a_request_says(server: ServerProcess) -> None:
    for ask in both(server):
        more = {
            "request_id": "r1", "sequence_id": 7, "sequence_start": True,
            "parameters": {"a": 1, "b": "two"},
        }  # fmt: skip
        result = ask("strings", more, IN=np.array([["añb".encode()], [b"cd"]], object))
        assert result.as_numpy("OUT").tolist() == [["bña".encode()], [b"dc"]]
    response = ask("strings", {"request_id": "r2"}, IN=np.array([[b"x"]], object)).get_response()
    said = response.parameters
    assert said["request"].string_param == "r2"
    assert said["sequence"].int64_param == 0
    assert said["parameters"].string_param == "{}"
    assert "WARNING inferd.model.strings turned bña" in server.log_text()


def test_a_parameter_that_no_worker_can_take_costs_its_own_request(server: ServerProcess) -> None:
    tensors = [json_tensor("INPUT0", 1, 1, 1, 1), json_tensor("INPUT1", 1, 1, 1, 1)]
    for _ in range(3):
        answer = server.infer("add_sub", {"inputs": tensors, "parameters": {"a": 1 << 70}})
        assert (answer.status, "64 bits" in answer.error) == (400, True)
    assert server.infer("add_sub", {"inputs": tensors}).status == 200


@pytest.mark.parametrize(
    ("model", "shapes", "seen"),
    [
        ("ragged", [(1, 3), (2, 1), (1, 0)], "3 {shape}"),
        ("reshaped", [(1, 4), (2, 4), (1, 4)], "3 ({shape[0]}, 2, 2)"),
    ],
)
def test_requests_of_several_shapes_come_together_in_the_models_own(
    server: ServerProcess, model: str, shapes: list[tuple[int, int]], seen: str
) -> None:
    def ask(shape: tuple[int, int]) -> None:
        x = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
        result = over_http(model, IN=x)
        assert result.as_numpy("OUT").tolist() == (2 * x).tolist()
        said = seen.format(shape=shape).encode()
        assert result.as_numpy("SAID").tolist() == [[said]] * shape[0]

    over_http = both(server)[0]
    with ThreadPoolExecutor(3) as threads:
        assert [*threads.map(ask, shapes)] == [None] * 3


def test_what_is_streamed_has_the_clients_shape(calls: Any) -> None:
    found: queue.Queue[Any] = queue.Queue()
    calls.start_stream(lambda result, error: found.put(error or result))
    calls.async_stream_infer("reshaped_stream", [given(grpc, "IN", floats(1, 2, 3, 4))])
    assert found.get(timeout=20).as_numpy("OUT").tolist() == [[2, 3, 4, 5]]
    calls.stop_stream()


def test_auto_completed_configuration(client: Any) -> None:
    config = client.get_model_config("auto")
    assert config["default_model_filename"] == "model.py"
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == [4]
    row = given(http, "IN", floats(1, 2, 3, 4))
    assert client.infer("auto", [row]).as_numpy("OUT").tolist() == [[2, 4, 6, 8]]


def test_a_stream_gives_each_response(calls: Any) -> None:
    assert stream(calls, "repeat", [3, 1, 2]) == [[3], [1], [2]]
    assert stream(calls, "repeat", []) == []


def test_an_error_within_a_stream_does_not_end_it(calls: Any) -> None:
    assert stream(calls, "repeat", [3, -1, 2]) == [[3], "negative", [2]]


def test_a_long_stream_is_not_held_by_its_sender(calls: Any) -> None:
    assert stream(calls, "repeat", [*range(500)]) == [[n] for n in range(500)]


def test_a_decoupled_model_needs_a_stream(server: ServerProcess) -> None:
    for ask in both(server):
        with pytest.raises(InferenceServerException, match=r"stream|decoupled"):
            ask("repeat", IN=np.zeros(1, np.int32))


def test_a_client_that_leaves_cancels(server: ServerProcess, calls: Any) -> None:
    found: queue.Queue[Any] = queue.Queue()
    calls.start_stream(lambda result, error: found.put(error or result))
    calls.async_stream_infer("waiting", [given(grpc, "IN", np.zeros(1, np.int32))])
    assert found.get(timeout=20).as_numpy("OUT").tolist() == [0]
    calls.stop_stream(cancel_requests=True)
    eventually(lambda: "waiting_cancelled 1.0" in metrics(server), "the model notices")


def test_a_request_sees_that_it_is_cancelled(server: ServerProcess) -> None:
    ask = both(server)[1]
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        ask("patient", {"client_timeout": 0.2}, IN=np.zeros(1, np.int32))
    eventually(lambda: "INFO inferd.model.patient nobody waits" in server.log_text(), "a look")


def test_requests_of_iterative_sequences_come_again(server: ServerProcess) -> None:
    def count(start: int) -> list[Any]:
        found: queue.Queue[Any] = queue.Queue()
        with grpc.InferenceServerClient(grpc_address(server)) as client:
            client.start_stream(lambda result, error: found.put(error or result))
            array = np.array([[start]], np.int32)
            client.async_stream_infer(
                "iterative", [given(grpc, "IN", array)], sequence_id=start, sequence_start=True,
                sequence_end=True, enable_empty_final_response=True,
            )  # fmt: skip
            got = []
            while True:
                one = found.get(timeout=20)
                assert not isinstance(one, InferenceServerException), one
                if one.get_response().outputs:
                    got += one.as_numpy("OUT").ravel().tolist()
                if one.get_response().parameters[FINAL].bool_param:
                    return got

    starts = range(1, 9)  # twice as many as there are slots
    with ThreadPoolExecutor(len(starts)) as at_once:
        assert [*at_once.map(count, starts)] == [[*range(start)][::-1] for start in starts]


def test_a_model_is_warmed_up(server: ServerProcess) -> None:
    result = both(server)[0]("warmed", IN=floats(0, 1, 2, 3))
    assert result.as_numpy("OUT").tolist() == [[2, 3, 4, 5]]


def test_a_model_says_whether_it_is_ready(server: ServerProcess) -> None:
    ask = both(server)[0]
    for ready, status in ((0, 400), (1, 200)):
        ask("moody", IN=np.array([ready], np.int32))
        eventually(lambda status=status: server.status(READY) == status, f"{status}")


def test_instances_have_names_and_may_ask_one_another(server: ServerProcess) -> None:
    log = server.log_text()
    assert "instance named_0" in log
    assert "instance named_1" in log
    for ask in both(server):
        assert ask("named", IN=np.array([3], np.int32)).as_numpy("OUT").tolist() == [3]


def metrics(server: ServerProcess) -> str:
    return server.get("/metrics").body.decode()


def test_a_model_asks_another(server: ServerProcess) -> None:
    for ask in both(server):
        result = ask("bls", {"parameters": {"model": "auto"}}, IN=floats(1, 2, 3, 4))
        assert result.as_numpy("OUT").tolist() == [[3, 5, 7, 9]]
    result = ask("bls", {"parameters": {"model": "repeat"}}, IN=floats(1, 2, 3))
    assert result.as_numpy("OUT").tolist() == [[1, 2, 3]]


def test_a_model_asks_several_at_a_time(server: ServerProcess) -> None:
    result = both(server)[1]("bls_async", IN=floats(1, 2, 3, 4))
    assert result.as_numpy("OUT").tolist() == [[6, 12, 18, 24]]


def test_questions_that_have_no_answer(server: ServerProcess) -> None:
    ask = both(server)[0]
    for model, said in (
        ("nowhere", "'nowhere' is not found"),
        ("errors", "unexpected inference input|data-type"),
        ("bls", "asks itself, and its only instance"),
    ):
        with pytest.raises(InferenceServerException, match=said):
            ask("bls", {"parameters": {"model": model}}, IN=floats(1, 2, 3, 4))


def test_metrics_of_a_model(server: ServerProcess) -> None:
    ask = both(server)[0]
    assert ask("metrics", IN=np.zeros(3, np.int32)).as_numpy("OUT").tolist() == [1]
    assert ask("metrics", IN=np.zeros(9, np.int32)).as_numpy("OUT").tolist() == [2]
    page = metrics(server)
    assert '# TYPE requests_seen counter\nrequests_seen{model="metrics"} 2.0\n' in page
    assert 'sizes_bucket{le="4.0"} 1\n' in page
    assert "sizes_sum 12.0\nsizes_count 2\n" in page


def test_a_model_loads_and_unloads_another(server: ServerProcess) -> None:
    def told(what: str, model: str = "spare", **more: Any) -> str:
        """Whether the model was ready before and is now."""
        words = text(f"{what} {model} {json.dumps(more)}")
        found: bytes = both(server)[0]("loader", IN=words).as_numpy("OUT")[0]
        return found.decode()

    assert told("load_model") == "False True"
    config = json.dumps({**server.get("/v2/models/spare/config").json(), "max_batch_size": 3})
    assert told("load_model", config=config) == "True True"
    assert server.get("/v2/models/spare/config").json()["max_batch_size"] == 3
    with pytest.raises(InferenceServerException, match="'config' is not JSON"):
        told("load_model", config="{")
    with pytest.raises(InferenceServerException, match="code from the network runs only"):
        told("load_model", config=config, files={"file:1/model.py": FORGETFUL})
    assert told("unload_model") == "True False"
    assert told("unload_model", "nowhere") == "False False"


def test_a_model_unloads_another_with_those_that_came_along(server: ServerProcess) -> None:
    def told(what: str, **more: Any) -> None:
        both(server)[0]("loader", IN=text(f"{what} around {json.dumps(more)}"))

    told("load_model")
    assert [server.state(name) for name in ("around", "inner")] == ["READY", "READY"]
    told("unload_model", unload_dependents=True)
    eventually(lambda: server.state("inner") == "UNAVAILABLE", "the other is unloaded, too")


def test_finalize_is_called(client: Any, server: ServerProcess) -> None:
    client.unload_model("add_sub")
    eventually(lambda: "add_sub says goodbye" in server.log_text(), "finalize")
    client.load_model("add_sub")
