"""HTTP routes of a model's own, through a real server: what comes and goes is what ASGI says, and
what goes wrong costs its own request.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from inferd import testing
from inferd.testing import ServerFailed, TestServer
from workers import visited_models as models
from workers.test_faults import until

SHOP = "/models/Shop/app"
MOST_BYTES = 1 << 22


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with testing.serve(
        models.Shop, models.Front, models.Inner,
        options=("--http-max-input-size", str(MOST_BYTES)),
    ) as server:  # fmt: skip
        yield server


class Answer:
    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    server: TestServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        with connection.getresponse() as response:
            return Answer(response)


def works(server: TestServer) -> Any:
    """A restarted worker takes a moment."""
    until(lambda: ask(server, f"{SHOP}/").status == 200)
    return ask(server, f"{SHOP}/").json()


def test_a_request_arrives_as_asgi_has_it(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/?a=1&echo=", connection="keep-alive, x-hop", x_hop="1", te="x")
    seen = answer.json()
    assert (seen["method"], seen["path"], seen["root"]) == ("GET", f"{SHOP}/", SHOP)
    assert seen["query"] == {"a": "1", "echo": ""}
    assert seen["client"][0] == "127.0.0.1"
    assert seen["opened"] == "by its life"
    assert seen["url"] == f"{server.url}{SHOP}/echo"
    assert seen["thread"] == "inferd-visits"
    assert not {"x-hop", "te", "connection"} & seen["headers"].keys()
    assert seen["headers"]["x-request-id"] == answer.headers["x-request-id"]


def test_it_is_the_instance_that_predicts(server: TestServer) -> None:
    before = works(server)["calls"]
    server.predict("Shop", number=1)
    assert ask(server, f"{SHOP}/").json()["calls"] == before + 1


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MOST_BYTES])
def test_bodies_go_both_ways_whole(server: TestServer, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert ask(server, f"{SHOP}/echo", "POST", body).body == body
    assert ask(server, f"{SHOP}/size", "POST", body).json() == {"size": size}


def test_a_body_in_chunks_arrives_with_its_length(server: TestServer) -> None:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        connection.request("POST", f"{SHOP}/size", iter([b"abc", b"de"]), encode_chunked=True)
        with connection.getresponse() as response:
            assert json.loads(response.read()) == {"size": 5}


def test_a_body_over_the_limit_is_refused(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/size", "POST", b"x" * (MOST_BYTES + 1))
    assert answer.status == 413


def test_a_body_that_is_not_read_holds_nobody_up(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/late", "POST", b"x" * MOST_BYTES)
    assert (answer.status, answer.body) == (409, b"early")
    works(server)


def test_the_longest_mount_answers_on_the_models_own_loop(server: TestServer) -> None:
    for path in ("/front/desk", "/front/desk/", "/front/desk/drawers"):
        answer = ask(server, path)
        assert answer.json() == {"path": path, "same": True}
        assert answer.headers["content-type"] == "application/json"
    assert ask(server, "/front/desk/drawer/left").body == b"the drawer"
    assert ask(server, "/front").status == 404
    assert ask(server, "/front/desks").status == 404


def test_what_the_server_itself_answers_stays(server: TestServer) -> None:
    for path in ("/v2/health/ready", "/models/Shop", "/models", "/metrics"):
        assert ask(server, path).status == 200
    assert ask(server, "/models/Shop/nothing").status == 404


def test_visits_and_calls_of_an_asynchronous_model_meet(server: TestServer) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, server, "/front/desk/wait")
        assert ask(server, "/front/desk").status == 200
        server.predict("Front", number=1)
        assert waiting.result().status == 200


@pytest.mark.parametrize(("kind", "status"), [("nothing", 204), ("unchanged", 304)])
def test_an_answer_without_a_body_has_no_framing(
    server: TestServer, kind: str, status: int
) -> None:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        for _ in range(2):  # the connection goes on
            connection.request("GET", f"{SHOP}/answer/{kind}")
            with connection.getresponse() as response:
                assert (response.status, response.read()) == (status, b"")
                assert not {"content-length", "transfer-encoding"} & set(response.headers)


def test_a_head_request_gets_the_head(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_headers_of_an_answer_go_on_but_for_those_of_a_connection(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/answer/cookies")
    assert [value.split(";")[0] for value in answer.headers.get_all("set-cookie")] == ["a=1", "b=2"]
    assert not {"x-hop", "te", "connection"} & set(answer.headers)


def test_a_length_that_was_announced_is_kept_to(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/answer/exact")
    assert (answer.headers["content-length"], answer.body) == ("6", b"abcdef")
    with pytest.raises((HTTPException, OSError)):
        ask(server, f"{SHOP}/answer/short")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("answer/split", 500, "header b'x-bad'"),
        ("answer/informed", 500, "status 103"),
        ("fault/raise", 500, "Internal Server Error"),
        ("fault/sys.exit", 500, "raised SystemExit: 3"),
        ("fault/half", 500, r"raised SystemExit: half a pair: \\udc80"),
        ("fault/hang", 504, "did not answer within 1 s"),
    ],
)
def test_what_the_routes_do_wrong_costs_their_own_request(
    server: TestServer, path: str, status: int, words: str
) -> None:
    pid = works(server)["pid"]
    answer = ask(server, f"{SHOP}/{path}")
    assert answer.status == status
    assert words in answer.body.decode()
    assert ask(server, f"{SHOP}/").json()["pid"] == pid


def test_a_crash_before_the_head_is_a_bad_gateway(server: TestServer) -> None:
    pid = works(server)["pid"]
    answer = ask(server, f"{SHOP}/fault/exit")
    assert answer.status == 502
    assert "ended: exit status 7" in answer.json()["error"]
    assert works(server)["pid"] != pid


@pytest.mark.parametrize("what", ["exit", "raise"])
def test_what_breaks_off_ends_its_connection(server: TestServer, what: str) -> None:
    works(server)
    with pytest.raises((HTTPException, OSError)):
        ask(server, f"{SHOP}/fault/{what}%20later")
    works(server)


def test_routes_that_block_their_loop_cost_the_worker(server: TestServer) -> None:
    pid = works(server)["pid"]
    assert ask(server, f"{SHOP}/fault/block").status == 504
    until(lambda: ask(server, f"{SHOP}/").status == 200)
    assert works(server)["pid"] != pid


def test_a_crash_of_a_call_costs_the_visits_beside_it(server: TestServer, tmp_path: Path) -> None:
    works(server)
    with left(server, f"{SHOP}/endless?mark={tmp_path / 'mark'}") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(ServerFailed, match="exit status 13"):
            server.predict("Shop", number=13)
        assert ends(client)
    works(server)


def test_an_answer_waits_for_its_reader_and_ends_with_it(
    server: TestServer, tmp_path: Path
) -> None:
    """What is sent without being read is bounded; when the client leaves, the generator is left."""
    works(server)
    mark = tmp_path / "mark"
    with left(server, f"{SHOP}/endless?mark={mark}") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        sent = -1

        def waits() -> bool:
            nonlocal sent
            before, sent = sent, ask(server, f"{SHOP}/").json()["sent"]
            return bool(sent == before)

        until(waits)
        assert sent * 10_000 < 16 * MOST_BYTES
        assert not mark.exists()
    until(lambda: mark.exists() and mark.read_text())


def test_a_client_that_leaves_is_a_disconnect(server: TestServer, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with left(server, f"/front/desk/left?{mark}"):
        assert ask(server, "/front/desk").status == 200
    until(mark.exists)
    assert ask(server, "/front/desk").status == 200


def test_a_websocket_is_refused(server: TestServer) -> None:
    answer = ask(
        server, SHOP, connection="Upgrade", upgrade="websocket",
        sec_websocket_version="13", sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    assert answer.status == 501
    assert "HTTP only" in answer.json()["error"]
    assert answer.headers["connection"] == "close"


def test_a_visit_of_another_page_is_the_routes_own_affair(server: TestServer) -> None:
    answer = ask(server, f"{SHOP}/size", "POST", b"x", origin="http://elsewhere.example")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (models.Hides, "mount of model 'Hides': '/v2' would hide the server's own route '/v2'"),
        (models.Unwell, "ValueError: the shop is closed"),
    ],
)
def test_what_cannot_be_mounted_is_not_loaded(model: Any, words: str) -> None:
    with pytest.raises(ServerFailed) as failure, testing.serve(model):
        pass
    assert words in str(failure.value)


def test_two_models_do_not_share_a_mount() -> None:
    with testing.serve(models.Front, models.Also, options=("--no-exit-on-error",)) as server:
        assert ask(server, "/front/desk").status in (200, 202)
        told = [line for line in server.log if "ERROR inferd.models" in line]
        assert len(told) == 1
        assert "is the mount of model" in told[0]
        assert "'Front'" in told[0]
        assert "'Also'" in told[0]


def test_routes_come_and_go_with_their_model() -> None:
    options = ("--model-control-mode", "explicit")
    with testing.serve(models.Front, models.Shop, options=options) as server:
        for _ in range(2):
            assert ask(server, "/front/desk").status == 404
            assert ask(server, "/v2/repository/models/Front/load", "POST").status == 200
            assert ask(server, "/front/desk").json() == {"path": "/front/desk", "same": True}
            assert ask(server, "/v2/repository/models/Front/unload", "POST").status == 200


def test_the_life_of_an_application_ends_with_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("VISITED_MARK", str(mark))
    with testing.serve(models.Shop):
        assert mark.read_text() == "open"
    assert mark.read_text() == "closed"


def left(server: TestServer, target: str) -> socket.socket:
    """A client that has asked; closing it leaves."""
    address = urlsplit(server.url)
    client = socket.create_connection((address.hostname or "", address.port or 0), timeout=30)
    client.sendall(f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
    return client


def ends(client: socket.socket) -> bool:
    """Read until the server ends the connection."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True
