"""A real server process, asked by the stock client of the websockets library."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from e2e.harness import RunningServer, eventually
from models import gather_answer, mlp_answer

X = np.linspace(-1, 1, 16, dtype=np.float32)


@contextmanager
def opened(server: RunningServer, path: str, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{server.port}{path}", **options) as client:
        yield client


def ask(client: ClientConnection, message: Any) -> Any:
    client.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return json.loads(client.recv(5))


def call(id: Any, **inputs: Any) -> dict[str, Any]:
    return {"id": id, "inputs": inputs}


def test_one_message_a_request(server: RunningServer) -> None:
    with opened(server, "/ws/models/mlp") as client:
        answer = ask(client, call(1, x=X.tolist()))
        assert list(answer) == ["id", "outputs"]
        assert answer["id"] == 1
        assert np.allclose(answer["outputs"]["y"], mlp_answer(X[None])[0], atol=1e-6)
        batch = ask(client, call("b", x=[X.tolist(), (X * 2).tolist()]))
        assert np.allclose(batch["outputs"]["y"], mlp_answer(np.stack([X, X * 2])), atol=1e-6)


def test_a_version_can_be_chosen(server: RunningServer) -> None:
    with opened(server, "/ws/models/versions/versions/2") as client:
        assert ask(client, call(1, x=[1, 2, 3, 4])) == {"id": 1, "outputs": {"y": [1, 2, 3, 4]}}


def test_many_are_in_flight_and_each_gets_its_own_answer(server: RunningServer) -> None:
    with opened(server, "/ws/models/slow") as client:
        for number in range(100):
            client.send(json.dumps(call(number, x=[number])))
        answers = [json.loads(client.recv(10)) for _ in range(100)]
    assert sorted(answer["id"] for answer in answers) == list(range(100))
    assert all(answer["outputs"] == {"y": [answer["id"]]} for answer in answers)


@pytest.mark.parametrize(
    ("message", "id", "phrase"),
    [
        ("", None, "the message is not"),
        ("{", None, "the message is not"),
        ("[1]", None, "the message is not"),
        ("null", None, "the message is not"),
        ('{"inputs": {"x": [1]}}', None, "id"),
        ('{"id": null, "inputs": {}}', None, "id"),
        ('{"id": 1.5, "inputs": {}}', None, "id"),
        ('{"id": "", "inputs": {}}', None, "id"),
        ('{"id": 99999999999999999999, "inputs": {}}', None, "id"),
        ('{"id": "\\ud800", "inputs": {}}', None, ""),
        ('{"id": 1, "input": {}}', 1, "unknown field `input`"),
        ('{"id": 1, "inputs": [1]}', 1, "expected a JSON object"),
        ('{"id": 1}', 1, "argument 'x' is required"),
        ('{"id": "a", "inputs": {"x": "text"}}', "a", "argument 'x'"),
        ('{"id": 1, "inputs": {"x": [1, 2, "3"]}}', 1, "argument 'x"),
        ('{"id": 1, "inputs": {"y": [1]}}', 1, "'x' is required"),
        ('{"id": 1, "session": 5, "inputs": {}}', 1, "session"),
        ('{"id": 1, "inputs": ' + "[" * 200 + "]" * 200 + "}", 1, "depth"),
    ],
)
def test_a_bad_message_gets_an_error_and_the_connection_goes_on(
    server: RunningServer, message: str, id: Any, phrase: str
) -> None:
    with opened(server, "/ws/models/mlp") as client:
        answer = ask(client, message)
        assert list(answer) == ["id", "error"]
        assert answer["id"] == id
        assert phrase in answer["error"]
        assert "outputs" in ask(client, call(2, x=X.tolist()))


def test_an_id_in_flight_cannot_be_used_again(server: RunningServer) -> None:
    with opened(server, "/ws/models/slow") as client:
        client.send(json.dumps(call("same", x=[1])))
        client.send(json.dumps(call("same", x=[2])))
        first, second = json.loads(client.recv(5)), json.loads(client.recv(5))
        assert "in flight already" in first["error"]
        assert second == {"id": "same", "outputs": {"y": [1]}}
        assert ask(client, call("same", x=[3]))["outputs"] == {"y": [3]}


def test_a_call_can_be_cancelled_by_its_id(server: RunningServer) -> None:
    before = server.metric("inferd_in_flight", model="waiting_gather")
    with opened(server, "/ws/models/waiting_gather") as client:
        client.send(json.dumps(call(7, ids=[0, 1])))
        assert ask(client, {"id": 7, "cancel": True}) == {"id": 7, "error": "cancelled"}
        client.send(json.dumps({"id": 8, "cancel": True}))  # nothing to do, nothing to say
    assert server.metric("inferd_in_flight", model="waiting_gather") == before


def test_a_failing_model_is_an_error_with_its_id(server: RunningServer) -> None:
    with opened(server, "/ws/models/gather") as client:
        assert "error" in ask(client, call(1, ids=[0, 10]))
        assert ask(client, call(2, ids=[1, 2]))["outputs"]["rows"] == (
            gather_answer(np.array([[1, 2]]))[0].tolist()
        )


# -- binary ----------------------------------------------------------------------------------------


def frame(head: Any, *blobs: bytes) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blobs)


def tensor(name: str, array: Any, datatype: str = "FP32") -> dict[str, Any]:
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": size}


def test_tensors_go_in_binary_frames(server: RunningServer) -> None:
    rows = np.stack([X, X * 3])
    with opened(server, "/ws/models/mlp") as client:
        client.send(frame({"id": "t", "inputs": [tensor("x", rows)]}, rows.tobytes()))
        answer = client.recv(5)
    assert isinstance(answer, bytes)
    (length,) = struct.unpack_from("<I", answer)
    head = json.loads(answer[4 : 4 + length])
    assert head["id"] == "t"
    (output,) = head["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [2, 3])
    found = np.frombuffer(answer[4 + length :], np.float32).reshape(2, 3)
    assert np.allclose(found, mlp_answer(rows), atol=1e-6)


def test_a_large_tensor_is_decoded_off_the_loop_and_in_its_turn(server: RunningServer) -> None:
    data = np.arange(300_000, dtype=np.float32).reshape(1, -1)
    with opened(server, "/ws/models/free_fp32", max_size=None) as client:
        client.send(frame({"id": "big", "inputs": [tensor("x", data)]}, data.tobytes()))
        client.send(json.dumps(call("small", x=[1])))
        client.send(json.dumps(call("large", x=data[0].tolist())))
        answers = [client.recv(10) for _ in range(3)]
    texts = {json.loads(a)["id"]: json.loads(a) for a in answers if isinstance(a, str)}
    assert texts["small"]["outputs"] == {"y": [1]}
    assert texts["large"]["outputs"]["y"] == data[0].tolist()
    (binary,) = [a for a in answers if isinstance(a, bytes)]
    assert binary.endswith(data.tobytes())


@pytest.mark.parametrize(
    ("data", "id", "phrase"),
    [
        (b"", None, "begins with the length"),
        (b"\x01\x00", None, "begins with the length"),
        (b"\xff\xff\xff\xff{}", None, "only 2 are left"),
        (frame([]), None, "failed to parse"),
        (frame({"inputs": []}), None, "needs an id"),
        (frame({"id": "a", "inputs": [tensor("x", X)]}), "a", "unexpected end of request"),
        (frame({"id": "a", "inputs": []}, b"more"), "a", "unexpected additional input data"),
        (frame({"id": "a", "inputs": [tensor("z", X)]}, X.tobytes()), "a", "'z'"),
        (frame({"id": "a", "inputs": [tensor("x", X, "FP99")]}, X.tobytes()), "a", "FP99"),
    ],
)
def test_a_bad_binary_message_gets_an_error(
    server: RunningServer, data: bytes, id: Any, phrase: str
) -> None:
    with opened(server, "/ws/models/mlp") as client:
        answer = ask(client, data)
        assert answer["id"] == id
        assert phrase in answer["error"]
        assert "outputs" in ask(client, call(2, x=X.tolist()))


# -- the handshake ---------------------------------------------------------------------------------


def test_what_cannot_be_opened_gets_an_ordinary_answer(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as unknown, opened(server, "/ws/models/nope"):
        pass
    assert unknown.value.response.status_code == 404
    assert b"'nope' is not found" in bytes(unknown.value.response.body or b"")
    plain = server.get("/ws/models/mlp")
    assert plain.status == 426
    assert plain.headers["upgrade"] == "websocket"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert server.get("/ws/models/mlp", upgrade).status == 400
    odd = {**upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "8"}
    assert server.get("/ws/models/mlp", odd).status in (400, 426)


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ("http://127.0.0.1:{port}", True),
        ("http://127.0.0.1:1", False),
        ("https://evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_a_page_of_another_site_may_not_open_one(
    server: RunningServer, origin: str, opens: bool
) -> None:
    headers = {"Origin": origin.format(port=server.port)}
    if opens:
        with opened(server, "/ws/models/mlp", additional_headers=headers) as client:
            assert "outputs" in ask(client, call(1, x=X.tolist()))
        return
    with (
        pytest.raises(InvalidStatus) as refused,
        opened(server, "/ws/models/mlp", additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == 403


# -- life ------------------------------------------------------------------------------------------


def test_pings_are_answered_and_closing_is_polite(server: RunningServer) -> None:
    with opened(server, "/ws/models/mlp") as client:
        assert client.ping(b"there?").wait(5)
    assert client.close_code == 1000


def test_text_that_is_not_utf8_ends_the_connection(server: RunningServer) -> None:
    with opened(server, "/ws/models/mlp") as client:
        client.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            client.recv(5)
    assert client.close_code == 1007


def test_fragments_make_one_message(server: RunningServer) -> None:
    text = json.dumps(call(1, x=X.tolist()))
    with opened(server, "/ws/models/mlp") as client:
        client.send([text[:10], text[10:40], text[40:]])
        assert "outputs" in json.loads(client.recv(5))


def test_broken_frames_end_the_connection_and_nothing_else(server: RunningServer) -> None:
    for broken in (b"\xff\xff\xff\xff", b"\x81\x05hello", b"\x00\x80\x00\x00\x00\x00"):
        with opened(server, "/ws/models/mlp") as client:
            client.socket.sendall(broken)
            with pytest.raises(ConnectionClosed):
                client.recv(5)
        assert client.close_code == 1002
    assert server.get("/v2/health/ready").status == 200


def test_a_client_that_vanishes_takes_its_calls_along(server: RunningServer) -> None:
    with opened(server, "/ws/models/waiting_gather") as client:
        client.send(json.dumps(call(1, ids=[0, 1])))
        eventually(
            lambda: server.metric("inferd_in_flight", model="waiting_gather") == 1, "in flight"
        )
        client.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: server.metric("inferd_in_flight", model="waiting_gather") == 0, "cancelled")


def test_a_message_over_the_limit_ends_the_connection(serve: Any, repository: Path) -> None:
    server = serve(repository, "--http-max-input-size", "1000")
    with opened(server, "/ws/models/mlp") as client:
        client.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            client.recv(5)
    assert client.close_code == 1009


def test_a_server_that_stops_answers_what_is_in_flight_and_goes_away(
    tmp_path: Path, repository: Path
) -> None:
    server = RunningServer(tmp_path / "server.log", repository)
    with opened(server, "/ws/models/slow") as client, opened(server, "/ws/models/mlp") as idle:
        for number in range(10):
            client.send(json.dumps(call(number, x=[number])))
        first = json.loads(client.recv(5))
        server.process.terminate()
        rest = [json.loads(client.recv(10)) for _ in range(9)]
        assert all("outputs" in answer for answer in [first, *rest])
        for one in (client, idle):
            with pytest.raises(ConnectionClosed):
                one.recv(5)
    assert client.close_code == idle.close_code == 1001
    assert server.process.wait(10) == 0
