"""Calls with named arguments, of a real server process."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.harness import RunningServer
from models import gather_answer, mlp_answer

X = np.linspace(-1, 1, 16, dtype=np.float32)


def test_one_item_and_several(server: RunningServer) -> None:
    answer = server.post("/models/mlp", {"x": X.tolist()})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["x-request-id"]
    assert np.allclose(answer.json()["y"], mlp_answer(X[None])[0], atol=1e-6)
    several = server.post("/models/mlp", {"x": [X.tolist()] * 3}).json()
    assert np.allclose(several["y"], mlp_answer(np.stack([X] * 3)), atol=1e-6)


def test_several_arguments_and_results(server: RunningServer) -> None:
    answer = server.post("/models/add", {"b": [1, 1, 1, 1], "a": [1, 2, 3, 4]})
    assert answer.json() == {"sum": [2, 3, 4, 5], "difference": [0, 1, 2, 3]}
    body = server.post("/models/fixed", {"x": [[1, 2, 3], [4, 5, 6]]}).json()
    assert body == {"y": [[1, 2, 3], [4, 5, 6]]}


def test_a_version_can_be_chosen_and_names_are_unquoted(server: RunningServer) -> None:
    for path in ("/models/versions/versions/1", "/models/v%65rsions?x=1"):
        assert server.post(path, {"x": [1, 2, 3, 4]}).json() == {"y": [1, 2, 3, 4]}


def test_it_answers_as_the_other_protocol_does(server: RunningServer) -> None:
    ids = [3, 7]
    wire = {"name": "ids", "datatype": "INT64", "shape": [1, 2], "data": ids}
    other = server.infer("gather", {"inputs": [wire]}).json()["outputs"][0]
    mine = server.post("/models/gather", {"ids": ids}).json()
    assert np.ravel(mine["rows"]).tolist() == other["data"]
    assert mine["rows"] == gather_answer(np.array([ids]))[0].tolist()


@pytest.mark.parametrize(
    ("path", "body", "status", "phrase"),
    [
        ("/models/nope", {}, 404, "'nope' is not found"),
        ("/models/mlp/versions/9", {}, 404, "version 9 is not found"),
        ("/models/mlp", b"", 400, "the body is empty"),
        ("/models/mlp", b"{", 400, "the body is not JSON"),
        ("/models/mlp", b"[" * 200, 400, "nesting depth"),
        ("/models/mlp", {}, 400, "argument 'x' is required"),
        ("/models/mlp", {"x": [1]}, 400, "argument 'x': expected a list of 16 numbers (FP32)"),
        ("/models/mlp", {"x": [[0] * 16] * 9}, 400, "batch-size must be <= 8"),
        ("/models/mlp", {"x": []}, 400, "argument 'x'"),
        ("/models/add", {"a": [1] * 4, "b": [[1] * 4]}, 400, "'a' is one item, but argument 'b'"),
        ("/models/gather", {"ids": [0, 10]}, 400, "out of data bounds"),
    ],
)
def test_what_is_wrong_is_said(
    server: RunningServer, path: str, body: Any, status: int, phrase: str
) -> None:
    answer = server.post(path, body)
    assert answer.status == status
    assert phrase in answer.error


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(server: RunningServer, method: str) -> None:
    answer = server.request(method, "/models/mlp")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_headers_are_honoured(server: RunningServer) -> None:
    body = json.dumps({"x": X.tolist()}).encode()
    answer = server.post("/models/mlp", body, {"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    packed = server.post("/models/mlp", gzip.compress(body), {"Content-Encoding": "gzip"})
    assert packed.status == 200
    late = server.post("/models/waiting_gather", {"ids": [0, 1]}, {"X-Request-Timeout-Ms": "5"})
    assert late.status == 503
    assert (
        "X-Request-Timeout-Ms".lower()
        in server.post("/models/mlp", body, {"X-Request-Timeout-Ms": "soon"}).error
    )
    odd = server.post("/models/mlp", body, {"Content-Encoding": "br"})
    assert (odd.status, odd.headers["accept-encoding"]) == (501, "gzip, deflate")


def test_large_bodies_and_answers_take_the_long_way(server: RunningServer) -> None:
    values = np.arange(200_000, dtype=np.float32).tolist()
    headers = {"Accept-Encoding": "gzip"}
    answer = server.post("/models/free_fp32", {"x": values}, headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body)) == {"y": values}
    wrong = server.post("/models/free_fp32", {"x": [*values, "end"]})
    assert wrong.error.startswith("argument 'x[200000]': expected a number (FP32), got a text")


EXPLAINING = """
import inferd


class Double(inferd.Model):
    def predict(self, x: float) -> float:
        return 2 * x

    def explain(self, x: float) -> str:
        return f"{x} and {x} again"
"""


def test_a_model_that_can_explains_itself(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXPLAINING)
    server = serve(f"{tmp_path / 'app.py'}:Double")
    assert server.post("/models/Double", {"x": 2}).json() == 4
    assert server.post("/models/Double/explain", {"x": 2}).json() == "2.0 and 2.0 again"
    assert server.get("/models/Double").json()["explains"]
    assert "/models/Double/explain" in server.get("/openapi.json").json()["paths"]


def test_a_model_that_cannot_says_so(server: RunningServer) -> None:
    answer = server.post("/models/mlp/explain", {"x": X.tolist()})
    assert (answer.status, answer.error) == (
        501, "model 'mlp' has no method 'explain'",
    )  # fmt: skip


# -- what describes them ---------------------------------------------------------------------------


def test_models_are_listed_with_their_arguments(server: RunningServer) -> None:
    cards = {card["name"]: card for card in server.get("/models").json()["models"]}
    assert {"mlp", "add", "fixed", "versions"} <= cards.keys()
    assert cards["versions"]["version"] == "2"
    (x,) = cards["mlp"]["inputs"]
    assert (x["name"], x["form"], x["datatype"], x["shape"]) == ("x", "tensor", "FP32", [16])
    assert x["required"]
    assert cards["mlp"]["max_batch_size"] == 8


def test_one_model_has_json_schemas(server: RunningServer) -> None:
    card = server.get("/models/mlp").json()
    one, many = card["request"]["anyOf"]
    assert one["properties"]["x"]["minItems"] == 16
    assert many["properties"]["x"]["items"]["maxItems"] == 16
    assert "y" in card["response"]["properties"]
    assert server.get("/models/mlp/versions/1").json() == card
    assert "'nope' is not found" in server.get("/models/nope").error


def test_each_model_has_an_operation_of_its_own(server: RunningServer) -> None:
    document = server.get("/openapi.json").json()
    operation = document["paths"]["/models/add"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["anyOf"][0]["required"] == ["a", "b"]
    assert {"200", "400", "404", "500", "503"} <= operation["responses"].keys()
    assert "/models/add" in server.get("/docs").body.decode()
