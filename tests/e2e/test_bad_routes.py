import gzip
import json

import pytest

from e2e.harness import RunningServer
from e2e.wire import GOOD_BODY, assert_refused, assert_serves, exchange, head

UNKNOWN_MODEL = "Request for unknown model: 'nope' is not found"
UNKNOWN_VERSION = "Request for unknown model: 'mlp' version 99 is not found"


@pytest.mark.parametrize("suffix", ["", "/config"])
@pytest.mark.parametrize(
    ("path", "phrase"),
    [("nope", UNKNOWN_MODEL), ("mlp/versions/99", UNKNOWN_VERSION)],
    ids=["model", "version"],
)
def test_what_is_asked_of_an_unknown_model_is_not_found(
    server: RunningServer, path: str, phrase: str, suffix: str
) -> None:
    assert_refused(server, server.get(f"/v2/models/{path}{suffix}"), 404, phrase)


@pytest.mark.parametrize(
    ("path", "phrase"),
    [("nope", UNKNOWN_MODEL), ("mlp/versions/99", UNKNOWN_VERSION)],
    ids=["model", "version"],
)
def test_inference_with_an_unknown_model_is_not_found(
    server: RunningServer, path: str, phrase: str
) -> None:
    answer = server.infer(path, GOOD_BODY)
    assert_refused(server, answer, 404, phrase)
    data = gzip.compress(json.dumps(GOOD_BODY).encode())
    answer = server.infer(path, data, {"Content-Encoding": "gzip"})
    assert_refused(server, answer, 404, phrase)


def test_unknown_model_is_not_ready(server: RunningServer) -> None:
    assert_refused(server, server.get("/v2/models/nope/ready"), 404, UNKNOWN_MODEL)
    answer = server.get("/v2/models/mlp/versions/99/ready")
    assert_refused(server, answer, 404, UNKNOWN_VERSION)


def test_unknown_model_has_no_statistics(server: RunningServer) -> None:
    answer = server.get("/v2/models/nope/stats")
    assert_refused(server, answer, 400, "requested model 'nope' is not available")


@pytest.mark.parametrize("version", ["0", "-1", "one", "1.0", "%31%20", "9" * 40])
def test_version_that_is_none_is_refused(server: RunningServer, version: str) -> None:
    answer = server.infer(f"mlp/versions/{version}", GOOD_BODY)
    assert answer.status in (400, 404), answer
    assert_refused(server, answer, answer.status, "mlp")


@pytest.mark.parametrize("name", ["..", "mlp%00", "a" * 5000, "%ff%fe", "%E2%82%AC", "mlp%20", "%"])
def test_odd_model_names_are_not_found(server: RunningServer, name: str) -> None:
    assert_refused(server, server.infer(name, GOOD_BODY), 404, "is not found")
    assert_refused(server, server.get(f"/v2/models/{name}"), 404, "is not found")


@pytest.mark.parametrize(
    "path",
    ["/nope", "/v1", "/v2/", "/v2/nope", "/v2/models", "/v2/models/mlp/nope", "/v2/models//infer",
     "/v2/models/mlp/infer/", "//v2", "/v2/models/mlp/versions/"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_not_found(server: RunningServer, method: str, path: str) -> None:
    body = GOOD_BODY if method == "POST" else None
    assert_refused(server, server.request(method, path, body), 404, "no such path")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_inference_takes_post_only(server: RunningServer, method: str) -> None:
    answer = server.request(method, "/v2/models/mlp/infer")
    assert answer.headers["allow"] == "POST"
    assert_refused(server, answer, 405, "POST")


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/ready", "/v2/models/mlp", "/v2/models/mlp/config", "/metrics"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_wrong_method_names_the_right_one(server: RunningServer, method: str, path: str) -> None:
    answer = server.request(method, path)
    assert "GET" in answer.headers["allow"].split(", ")
    assert_refused(server, answer, 405, f"{method} is not allowed on {path}")


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/models/mlp/load"])
def test_repository_takes_post_only(server: RunningServer, path: str) -> None:
    answer = server.get(path)
    assert answer.headers["allow"] == "POST"
    assert_refused(server, answer, 405, f"GET is not allowed on {path}")


def test_head_has_the_headers_of_get_and_no_body(server: RunningServer) -> None:
    answer = server.request("HEAD", "/v2")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(server.get("/v2").body)
    assert_serves(server)


@pytest.mark.parametrize("method", ["FOO", "infer", "G3T", "POSTS", "A" * 5000])
def test_unknown_method_token_is_refused(server: RunningServer, method: str) -> None:
    answer, closed = exchange(server, head(method, "/v2/models/mlp/infer"))
    assert closed
    assert answer.status in (400, 405, 501), answer
    assert_refused(server, answer, answer.status, "")


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_need_explicit_mode(server: RunningServer, verb: str) -> None:
    answer = server.post(f"/v2/repository/models/mlp/{verb}")
    assert answer.status in (400, 503), answer
    assert_refused(server, answer, answer.status, "explicit")


BAD_INDEX: dict[str, tuple[bytes, str]] = {
    "ready a number": (b'{"ready": 1}', "ready"),
    "ready text": (b'{"ready": "true"}', "ready"),
    "a list": (b"[]", "failed to parse the request JSON buffer"),
    "truncated": (b'{"ready": true', "failed to parse the request JSON buffer"),
    "not UTF-8": (b"\xff\xfe{}", "failed to parse the request JSON buffer"),
    "lists too deep": (b'{"a":' + b"[" * 120 + b"]" * 120 + b"}", "JSON nesting depth exceeds"),
    "objects too deep": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "JSON nesting depth exceeds"),
}


@pytest.mark.parametrize(("body", "phrase"), BAD_INDEX.values(), ids=BAD_INDEX)
def test_bad_repository_request_is_refused(server: RunningServer, body: bytes, phrase: str) -> None:
    assert_refused(server, server.post("/v2/repository/index", body), 400, phrase)
