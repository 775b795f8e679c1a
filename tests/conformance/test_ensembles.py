"""Ensembles and kept answers, as stock clients see them."""

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http

from lifecycle.onnx_models import Repository, add_sub, identity, lookup
from lifecycle.process import ServerProcess, free_port

LABELS = ("cat", "dog", "bird", "fish")

COUNTS = """
from collections.abc import Iterator
import inferd


class Counts(inferd.Model, name="counts"):
    def predict(self, to: int) -> Iterator[int]:
        for number in range(to):
            yield number
"""

CHECKED = """
import inferd


class Checked(inferd.Model, name="checked"):
    def predict(self, number: int) -> int:
        if number == 77:
            raise ValueError("77 is too many")
        return number * 10
"""


def tensor(name: str, *dims: int, type: str = "TYPE_FP32", **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": type, "dims": list(dims), **more}


def step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    return {"model_name": model, "input_map": inputs, "output_map": outputs}


def ensemble(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], *steps: dict[str, Any],
    max_batch_size: int = 8, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "platform": "ensemble", "max_batch_size": max_batch_size, "input": inputs,
        "output": outputs, "ensemble_scheduling": {"step": list(steps)}, **more,
    }  # fmt: skip


def write(root: Path) -> None:
    repository = Repository(root)
    batches = {"max_batch_size": 8}
    repository.add("sums", add_sub(), config=batches)
    repository.add("table", lookup(), config=batches)
    repository.add("same", identity(), config=batches)
    labelled = {**batches, "output": [tensor("OUTPUT0", 4, label_filename="labels.txt")]}
    repository.add("labelled", identity(), config=labelled, files={"labels.txt": "\n".join(LABELS)})
    rows = tensor("in", 16), tensor("other", 16)
    repository.configure(
        "diamond",
        ensemble(
            [*rows], [tensor("out", 16), tensor("difference", 16)],
            step("sums", {"INPUT0": "sum", "INPUT1": "difference"}, {"OUTPUT0": "out"}),
            step(
                "sums", {"INPUT0": "in", "INPUT1": "other"},
                {"OUTPUT0": "sum", "OUTPUT1": "difference"},
            ),
        ),
    )  # fmt: skip
    repository.configure(
        "looked_up",
        ensemble(
            [tensor("in", 1, type="TYPE_INT64")], [tensor("out", 1)],
            step("table", {"INPUT0": "in"}, {"OUTPUT0": "out"}),
        ),
    )  # fmt: skip
    repository.configure(
        "named",
        ensemble(
            [tensor("in", 4)], [tensor("out", 4)],
            step("same", {"INPUT0": "in"}, {"OUTPUT0": "t"}),
            step("labelled", {"INPUT0": "t"}, {"OUTPUT0": "out"}),
            response_cache={"enable": True},
        ),
    )  # fmt: skip
    numbers = {"type": "TYPE_INT64"}
    repository.configure(
        "counted",
        ensemble(
            [tensor("in", 1, **numbers)], [tensor("out", 1, **numbers)],
            step("counts", {"to": "in"}, {"output": "t"}),
            step("checked", {"number": "t"}, {"output": "out"}),
            max_batch_size=0,
        ),
    )  # fmt: skip
    for name, source in (("counts", COUNTS), ("checked", CHECKED)):
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "model.py").write_text(source)


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, grpc_port: int) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("ensembles")
    write(root / "repository")
    process = ServerProcess(
        root / "server.log", root / "repository", "--model-control-mode", "explicit",
        *[part for name in ("diamond", "looked_up", "named", "counted")
          for part in ("--load-model", name)],
        "--cache-config", "local,size=1048576", grpc_port=grpc_port,
    )  # fmt: skip
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[http.InferenceServerClient]:
    with http.InferenceServerClient(server.address, concurrency=8) as found:
        yield found


@pytest.fixture(scope="module")
def calls(server: ServerProcess, grpc_port: int) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as found:
        yield found


def given(module: Any, name: str, array: "np.ndarray[Any, Any]", type: str = "FP32") -> Any:
    made = module.InferInput(name, list(array.shape), type)
    made.set_data_from_numpy(array)
    return made


ROWS = np.arange(32, dtype=np.float32).reshape(2, 16)


@pytest.mark.parametrize("module", [http, grpc])
def test_an_ensemble_answers_as_its_models_do(
    module: Any, client: http.InferenceServerClient, calls: grpc.InferenceServerClient
) -> None:
    asked: Any = client if module is http else calls
    inputs = [given(module, "in", ROWS), given(module, "other", ROWS * 2)]
    answer = asked.infer("diamond", inputs)
    assert np.array_equal(answer.as_numpy("difference"), ROWS - ROWS * 2)
    assert np.array_equal(answer.as_numpy("out"), (ROWS + ROWS * 2) + (ROWS - ROWS * 2))
    wanted = [module.InferRequestedOutput("difference")]
    only = asked.infer("diamond", inputs, outputs=wanted)
    assert np.array_equal(only.as_numpy("difference"), ROWS - ROWS * 2)
    assert only.as_numpy("out") is None


@pytest.mark.parametrize("module", [http, grpc])
def test_an_error_names_the_ensemble_and_the_step(
    module: Any, client: http.InferenceServerClient, calls: grpc.InferenceServerClient
) -> None:
    asked: Any = client if module is http else calls
    with pytest.raises(Exception, match=r"in ensemble 'looked_up', step 1 \(model 'table'\): "):
        asked.infer("looked_up", [given(module, "in", np.array([[99]], np.int64), "INT64")])
    good = asked.infer("looked_up", [given(module, "in", np.array([[7]], np.int64), "INT64")])
    assert good.as_numpy("out").tolist() == [[7]]


def test_plain_requests_are_answered_as_any(server: ServerProcess) -> None:
    for value in (3, 4):
        body = {"inputs": [{"name": "in", "datatype": "INT64", "shape": [1, 1], "data": [value]}]}
        answer = server.infer("looked_up", body)
        assert answer.json()["outputs"] == [
            {"name": "out", "datatype": "FP32", "shape": [1, 1], "data": [float(value)]}
        ]
    before = server.statistics("table")["inference_stats"]["success"]["count"]
    server.infer("looked_up", body)
    assert server.statistics("table")["inference_stats"]["success"]["count"] == before + 1


def test_classes_are_named_by_the_member(client: http.InferenceServerClient) -> None:
    wanted = [http.InferRequestedOutput("out", class_count=1)]
    scores = np.array([[0.1, 0.9, 0.2, 0.3]], np.float32)
    answer = client.infer("named", [given(http, "in", scores)], outputs=wanted)
    assert answer.as_numpy("out").tolist() == [[b"0.900000:1:dog"]]


# -- what streams ---------------------------------------------------------------------------------


def streamed(calls: grpc.InferenceServerClient, to: int) -> list[Any]:
    """Numbers and errors of the stream of `counted`, until its end or an error."""
    came: queue.Queue[Any] = queue.Queue()
    calls.start_stream(lambda result, error: came.put((result, error)))
    try:
        number = given(grpc, "in", np.array([to], np.int64), "INT64")
        calls.async_stream_infer("counted", [number], enable_empty_final_response=True)
        found: list[Any] = []
        while True:
            result, error = came.get(timeout=20)
            if error is not None:
                return [*found, str(error)]
            final = result.get_response().parameters.get("triton_final_response")
            if result.as_numpy("out") is not None and result.as_numpy("out").size:
                found.append(int(result.as_numpy("out").ravel()[0]))
            if final is not None and final.bool_param:
                return found
    finally:
        calls.stop_stream()


def test_each_response_of_a_stream_goes_on_by_itself(calls: grpc.InferenceServerClient) -> None:
    assert streamed(calls, 70) == list(range(0, 700, 10))  # more than are on their way at once
    assert streamed(calls, 0) == []


def test_an_error_in_a_stream_names_the_step(calls: grpc.InferenceServerClient) -> None:
    *_, last = streamed(calls, 100)
    assert "in ensemble 'counted', step 2 (model 'checked'): " in last
    assert "77 is too many" in last


def test_a_stream_is_refused_where_it_cannot_be_carried(
    client: http.InferenceServerClient,
) -> None:
    number = given(http, "in", np.array([1], np.int64), "INT64")
    with pytest.raises(Exception, match="stream"):
        client.infer("counted", [number])


def test_an_ensemble_that_streams_cannot_keep_answers(
    client: http.InferenceServerClient, calls: grpc.InferenceServerClient
) -> None:
    wanting = client.get_model_config("counted") | {"response_cache": {"enable": True}}
    with pytest.raises(
        Exception, match="does not currently support model counted with 'decoupled'"
    ):
        client.load_model("counted", config=json.dumps(wanting))
    assert streamed(calls, 2) == [0, 10]  # the one before serves on


# -- what is kept ---------------------------------------------------------------------------------


def test_hits_and_misses_are_counted_as_triton_does(
    server: ServerProcess, client: http.InferenceServerClient
) -> None:
    scores = np.array([[5, 6, 7, 8]], np.float32)
    before = server.statistics("named")
    for _ in range(3):
        answer = client.infer("named", [given(http, "in", scores)], request_id="7")
        assert answer.as_numpy("out").tolist() == scores.tolist()
        assert answer.get_response()["id"] == "7"
    after = server.statistics("named")

    def more(name: str) -> int:
        counts = [entry["inference_stats"][name]["count"] for entry in (before, after)]
        return int(counts[1] - counts[0])

    assert (more("cache_miss"), more("cache_hit")) == (1, 2)
    assert (more("success"), more("queue"), more("compute_infer")) == (3, 3, 1)
    assert after["inference_count"] - before["inference_count"] == 1
    assert after["execution_count"] - before["execution_count"] == 1


def test_metrics_tell_of_steps_and_of_the_cache(
    server: ServerProcess, client: http.InferenceServerClient
) -> None:
    client.infer("named", [given(http, "in", np.zeros((1, 4), np.float32))])
    page = server.get("/metrics").body.decode()
    for line in (
        'inferd_ensemble_step_duration_seconds_count{model="named",step="1",step_model="same"',
        'nv_cache_num_hits_per_model{model="named",version="1"}',
        'nv_cache_num_misses_per_model{model="named",version="1"}',
        'nv_cache_hit_duration_per_model{model="named",version="1"}',
        'nv_cache_miss_duration_per_model{model="named",version="1"}',
        "inferd_cache_size_bytes 1.048576e+06",
        "inferd_cache_used_bytes ", "inferd_cache_utilization ", "inferd_cache_entries ",
        "inferd_cache_evictions_total 0.0",
    ):  # fmt: skip
        assert line in page, line
    assert 'nv_cache_num_hits_per_model{model="same"' not in page


# -- what is told, and what comes and goes --------------------------------------------------------


def test_the_configuration_is_printed_as_triton_does_and_can_be_read_back(
    client: http.InferenceServerClient, calls: grpc.InferenceServerClient
) -> None:
    printed = client.get_model_config("named")
    assert (printed["platform"], printed["backend"]) == ("ensemble", "")
    assert (printed["instance_group"], printed["default_model_filename"]) == ([], "")
    assert printed["response_cache"] == {"enable": True}
    assert "dynamic_batching" not in printed
    assert printed["ensemble_scheduling"]["step"][1] == {
        "model_name": "labelled", "model_version": -1, "input_map": {"INPUT0": "t"},
        "output_map": {"OUTPUT0": "out"}, "model_namespace": "",
    }  # fmt: skip
    told = calls.get_model_config("named", as_json=True)["config"]
    assert told["ensemble_scheduling"]["step"][0]["input_map"] == {"INPUT0": "in"}
    client.load_model("named", config=json.dumps(printed))
    client.load_model("named", config=json.dumps(told))
    assert client.get_model_config("named") == printed
    client.load_model("named")


@pytest.mark.parametrize("module", [http, grpc])
def test_models_that_came_along_go_along(
    module: Any, server: ServerProcess, client: http.InferenceServerClient,
    calls: grpc.InferenceServerClient,
) -> None:  # fmt: skip
    asked: Any = client if module is http else calls
    asked.unload_model("looked_up", unload_dependents=True)
    assert not client.is_model_ready("table")
    assert not client.is_model_ready("looked_up")
    asked.load_model("looked_up")
    assert client.is_model_ready("table")
    assert client.is_model_ready("looked_up")
    client.unload_model("table")
    assert not client.is_model_ready("looked_up")
    assert "step 1 (model 'table')" in server.index()["looked_up", "1"]["reason"]
    with pytest.raises(Exception, match=r"in ensemble 'looked_up', step 1 \(model 'table'\)"):
        asked.infer("looked_up", [given(module, "in", np.array([[1]], np.int64), "INT64")])
    client.load_model("table")
    assert client.is_model_ready("looked_up")
    asked.unload_model("looked_up", unload_dependents=True)
    assert client.is_model_ready("table")  # it was asked for by itself
    client.unload_model("table")
    asked.load_model("looked_up")
