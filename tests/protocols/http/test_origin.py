"""Pages of other sites, which a browser lets ask any server that it reaches."""

import pytest

from e2e.harness import RunningServer

X = [0.0] * 16
INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": X}]}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/mlp", {"x": X}),
        ("/v2/models/mlp/infer", INFER),
        ("/v2/repository/index", {}),
        ("/v2/repository/models/mlp/unload", {}),
        ("/v1/chat/completions", {"model": "mlp", "messages": []}),
        ("/rerank", {"query": "a", "documents": ["a"]}),
    ],
)
def test_may_not_use_it(server: RunningServer, origin: str, path: str, body: object) -> None:
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=b"):
        answer = server.post(path, body, {"Origin": origin, "Content-Type": kind})
        assert answer.status == 403
        error = answer.json()["error"]
        assert "page of another site" in (error if isinstance(error, str) else error["message"])
    assert server.get("/v2/models/mlp/ready").status == 200


def test_of_the_same_host_may(server: RunningServer) -> None:
    for headers in (
        {"Origin": server.url},
        {"Origin": "https://proxy.example", "X-Forwarded-Host": "proxy.example"},
    ):
        assert server.post("/models/mlp", {"x": X}, headers).status == 200
        assert server.post("/v2/models/mlp/infer", INFER, headers).status == 200


def test_may_read_what_the_browser_then_keeps_from_it(server: RunningServer) -> None:
    answer = server.get("/v2", headers={"Origin": "https://evil.example"})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
