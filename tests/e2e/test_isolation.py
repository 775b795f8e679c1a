import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.harness import Answer, RunningServer, ask
from e2e.wire import HEADER_LENGTH, assert_serves, binary_body, one, tensor
from models import Array, gather_answer

THREADS = 32
BOUNDS = "indices element out of data bounds"


@pytest.fixture(scope="module")
def own(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose counters nobody else moves."""
    running = RunningServer(tmp_path_factory.mktemp("own") / "server.log", repository)
    yield running
    running.stop()


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What `work(number)` gives on so many threads that start at the same time."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait(20)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def ids_request(model: str, ids: Array) -> dict[str, Any]:
    return {"inputs": [tensor("ids", "INT64", ids.shape, ids.ravel().tolist())], "id": model}


def retries(server: RunningServer, model: str) -> float:
    return server.metric("inferd_batches_closed_total", model=model, version="1", reason="retry")


@pytest.mark.parametrize("bad", [{5}, {0}, {31}, {3, 4, 20}, set(range(0, 32, 2))], ids=str)
@pytest.mark.parametrize("with_id", [True, False], ids=["with id", "plain"])
def test_bad_request_does_not_fail_its_neighbours(
    own: RunningServer, bad: set[int], with_id: bool
) -> None:
    # The model waits for as many rows as come here: all of them share one batch.
    before = retries(own, "waiting_gather")

    def work(number: int) -> Answer:
        ids = np.array([[number % 10, 10 if number in bad else 0]])
        body = ids_request("waiting_gather", ids)
        if not with_id:
            del body["id"]
        return own.infer("waiting_gather", body)

    answers = together(work)
    for number, answer in enumerate(answers):
        if number in bad:
            assert answer.status == 400, (number, answer)
            assert BOUNDS in answer.error
        else:
            assert answer.status == 200, (number, answer)
            (rows,) = answer.json()["outputs"]
            expected = gather_answer(np.array([[number % 10, 0]])).ravel().tolist()
            assert rows["data"] == expected
    assert retries(own, "waiting_gather") > before, "no batch with a bad request was split"
    assert_serves(own)


def test_bad_row_fails_the_whole_of_its_own_request_only(own: RunningServer) -> None:
    def work(number: int) -> Answer:
        ids = np.full((1 + number % 3, 2), number % 10)
        if number % 8 == 0:
            ids[-1, -1] = -11
        return own.infer("slow_gather", ids_request("slow_gather", ids))

    for number, answer in enumerate(together(work)):
        assert answer.status == (400 if number % 8 == 0 else 200), (number, answer)
        if answer.status == 200:
            (rows,) = answer.json()["outputs"]
            assert rows["shape"] == [1 + number % 3, 2, 3]
            assert rows["data"] == gather_answer(np.full(rows["shape"][:2], number % 10)).ravel(
            ).tolist()  # fmt: skip


def test_fast_model_tells_good_from_bad_under_load(own: RunningServer) -> None:
    def work(number: int) -> list[int]:
        found = []
        connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)
        with closing(connection):
            for turn in range(30):
                ids = np.array([[turn % 10, 10 if (number + turn) % 5 == 0 else number % 10]])
                body = {"inputs": [tensor("ids", "INT64", [1, 2], ids.ravel().tolist())]}
                answer = ask(connection, "POST", "/v2/models/gather/infer", body)
                if answer.status == 200:
                    (rows,) = answer.json()["outputs"]
                    assert rows["data"] == gather_answer(ids).ravel().tolist()
                found.append(answer.status)
        return found

    for number, statuses in enumerate(together(work)):
        assert statuses == [400 if (number + t) % 5 == 0 else 200 for t in range(30)]
    assert_serves(own)


# -- each caller its own answer --------------------------------------------------------------------


def distinct(datatype: str, rows: int, columns: int, mark: int) -> Array:
    """Values that no other request has."""
    values = mark * 1000 + np.arange(rows * columns).reshape(rows, columns)
    if datatype == "BYTES":
        texts: Array = values.astype(str).astype(object)
        return texts
    return values.astype({"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}[datatype])


def asked_in_json(connection: http.client.HTTPConnection, model: str, datatype: str, values: Array,
                  mark: int) -> None:  # fmt: skip
    data = values.tolist() if mark % 2 else values.ravel().tolist()
    body = one(datatype, values.shape, data)
    if mark % 3 == 0:
        body["id"] = f"request {mark}"
    answer = ask(connection, "POST", f"/v2/models/{model}/infer", body)
    assert answer.status == 200, answer
    found = answer.json()
    assert found.get("id", f"request {mark}") == f"request {mark}"
    (output,) = found["outputs"]
    assert output["shape"] == list(values.shape)
    assert output["data"] == values.ravel().tolist()


def asked_in_binary(connection: http.client.HTTPConnection, model: str, datatype: str,
                    values: Array) -> None:  # fmt: skip
    blob = values.tobytes()
    wire = {"name": "x", "shape": list(values.shape), "datatype": datatype,
            "parameters": {"binary_data_size": len(blob)}}  # fmt: skip
    request = {"inputs": [wire], "parameters": {"binary_data_output": True}}
    body, headers = binary_body(request, blob)
    answer = ask(connection, "POST", f"/v2/models/{model}/infer", body, headers)
    assert answer.status == 200, answer
    length = int(answer.headers[HEADER_LENGTH.lower()])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == list(values.shape)
    assert answer.body[length:] == blob


@pytest.mark.parametrize("free", [False, True], ids=["one shape", "free shapes"])
def test_each_caller_gets_its_own_answer(own: RunningServer, free: bool) -> None:
    requests = 50

    def work(number: int) -> int:
        datatype = ("FP32", "INT64", "FP64", "BYTES")[number % 4]
        model = f"{'free' if free else 'identity'}_{datatype.lower()}"
        connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)
        done = 0
        with closing(connection):
            for turn in range(requests):
                mark = number * requests + turn
                rows = 1 if turn % 2 else 1 + (number + turn) % 7
                columns = 1 + (number * 3 + turn) % 5 if free else 4
                values = distinct(datatype, rows, columns, mark)
                if datatype != "BYTES" and turn % 4 == 0:
                    asked_in_binary(connection, model, datatype, values)
                else:
                    asked_in_json(connection, model, datatype, values, mark)
                done += 1
        return done

    assert sum(together(work)) == THREADS * requests
    assert own.metric("inferd_in_flight", model="identity_fp32", version="1") == 0


def test_answers_of_a_slow_model_reach_their_callers(own: RunningServer) -> None:
    def work(number: int) -> list[float]:
        rows = 1 + number % 4
        values = (number * 100 + np.arange(rows, dtype=np.float32)).tolist()
        found: list[float] = []
        for _ in range(3):
            answer = own.infer("slow", one("FP32", [rows, 1], values))
            assert answer.status == 200, answer
            found += answer.json()["outputs"][0]["data"]
        assert found == values * 3
        return found

    runs = own.metric("nv_inference_exec_count", model="slow", version="1")
    together(work)
    runs = own.metric("nv_inference_exec_count", model="slow", version="1") - runs
    assert runs < THREADS * 3 / 2, "requests did not share batches"
