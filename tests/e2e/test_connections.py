import http.client
import json
import socket
import time
from contextlib import ExitStack

import pytest

from e2e.harness import RunningServer, ask, eventually
from e2e.wire import (
    GOOD_BODY,
    AnswerReader,
    assert_refused,
    assert_serves,
    exchange,
    head,
    infer_bytes,
    one,
)

MAX_HEAD = 64 * 1024


def marked(number: int) -> dict[str, object]:
    return one("FP32", [1, 4], [number, 0, 0, 0], id=f"n{number}")


# -- pipelining ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [20, 200])
def test_pipelined_requests_are_answered_in_order(server: RunningServer, count: int) -> None:
    kinds = [
        (infer_bytes("nope", GOOD_BODY), 404, "unknown model: 'nope'"),
        (head("GET", "/v2/models/mlp"), 200, '"name":"mlp"'),
        (infer_bytes("mlp", b"{"), 400, "failed to parse"),
        (head("GET", "/v2/nope"), 404, "no such path"),
        (infer_bytes("slow", one("FP32", [2, 1], [1])), 400, "needs 2 elements"),
        (head("GET", "/v2/health/live"), 200, "live"),
    ]
    sent, expected = [], []
    for number in range(count):
        sent.append(infer_bytes("identity_fp32", marked(number)))
        expected.append((200, f'"id":"n{number}"'))
        data, status, phrase = kinds[number % len(kinds)]
        sent.append(data)
        expected.append((status, phrase))
    sent.append(infer_bytes("slow", one("FP32", [1, 1], [7])))
    sent.append(infer_bytes("identity_fp32", marked(count)))
    expected += [(200, '"model_name":"slow"'), (200, f'"id":"n{count}"')]
    with server.connect() as connection:
        reader = AnswerReader(connection)
        for _ in range(2):
            connection.sendall(b"".join(sent))
            for status, phrase in expected:
                answer = reader.read()
                assert answer.status == status, answer
                assert phrase in answer.body.decode()
    assert_serves(server)


@pytest.mark.parametrize(
    "request_bytes",
    [head("GET", "/v2"), infer_bytes("slow", one("FP32", [1, 1], [1])), infer_bytes("mlp", b"{")],
    ids=["metadata", "slow inference", "error"],
)
def test_connection_is_used_again_after_a_long_pipeline(
    server: RunningServer, request_bytes: bytes
) -> None:
    with server.connect() as connection:
        reader = AnswerReader(connection)
        for _ in range(2):
            connection.sendall(request_bytes * 36)
            first = reader.read()
            for _ in range(35):
                assert reader.read().status == first.status
    assert_serves(server)


def test_thousands_of_pipelined_requests_do_not_hold_up_others(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n" * 10_000)
        started_s = time.monotonic()
        assert_serves(server)
        assert time.monotonic() - started_s < 2
        reader = AnswerReader(connection)
        for _ in range(10_000):
            assert reader.read().status == 200


def test_pipelined_requests_with_large_bodies_are_answered(server: RunningServer) -> None:
    good = json.dumps(GOOD_BODY).encode()
    requests = [infer_bytes("mlp", good + b" " * (300_001 + 37_003 * i)) for i in range(16)]
    with server.connect() as connection:
        connection.sendall(b"".join(requests))
        reader = AnswerReader(connection)
        for _ in requests:
            answer = reader.read()
            assert answer.status == 200, answer


def test_requests_before_garbage_are_answered_first(server: RunningServer) -> None:
    good = infer_bytes("slow", one("FP32", [1, 1], [3]))
    with server.connect() as connection:
        connection.sendall(good + good + b"\x16\x03\x01 garbage\r\n\r\n" + good)
        reader = AnswerReader(connection)
        assert [reader.read().status for _ in range(2)] == [200, 200]
        assert_refused(server, reader.read(), 400, "malformed HTTP request")
        assert reader.at_end()


def test_request_in_single_bytes_is_answered(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in infer_bytes("identity_fp32", marked(5)) * 2:
            connection.sendall(bytes([byte]))
        reader = AnswerReader(connection)
        for _ in range(2):
            assert reader.read().json()["id"] == "n5"


# -- the life of a connection ----------------------------------------------------------------------


def test_connection_is_used_again_after_each_error(server: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    with ExitStack() as stack:
        stack.callback(connection.close)
        path = "/v2/models/mlp/infer"
        ask(connection, "POST", path, GOOD_BODY)
        first = connection.sock
        for method, where, body, status in (
            ("POST", path, b"", 400),
            ("POST", "/v2/models/nope/infer", GOOD_BODY, 404),
            ("GET", "/v2/nope", None, 404),
            ("PUT", path, b"x", 405),
            ("POST", "/v2/repository/index", b"{", 400),
            ("POST", path, b"[" * 1000, 400),
        ):
            assert ask(connection, method, where, body).status == status
            assert ask(connection, "POST", path, GOOD_BODY).status == 200
            assert connection.sock is first


def test_connection_close_is_obeyed(server: RunningServer) -> None:
    for data in (
        infer_bytes("mlp", GOOD_BODY, "Connection: close"),
        infer_bytes("mlp", b"{", "Connection: close"),
        head("GET", "/v2", "Connection: close"),
    ):
        answer, closed = exchange(server, data)
        assert answer.status in (200, 400)
        assert closed


def test_http_1_0_is_answered_and_closed(server: RunningServer) -> None:
    body = json.dumps(GOOD_BODY).encode()
    for data in (
        b"GET /v2/models/mlp HTTP/1.0\r\n\r\n",
        b"POST /v2/models/mlp/infer HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    ):
        answer, closed = exchange(server, data)
        assert answer.status == 200, answer
        assert "transfer-encoding" not in answer.headers
        assert closed
    assert_serves(server)


def test_client_that_asks_to_go_on_is_told_to(server: RunningServer) -> None:
    body = json.dumps(GOOD_BODY).encode()
    start = head("POST", "/v2/models/mlp/infer", f"Content-Length: {len(body)}",
                 "Expect: 100-continue")  # fmt: skip
    with server.connect() as connection:
        reader = AnswerReader(connection)
        for _ in range(2):
            connection.sendall(start)
            assert reader.read().status == 100
            connection.sendall(body)
            assert reader.read().status == 200
        connection.sendall(start + body)  # it did not wait: no 100 is due
        answer = reader.read()
        assert answer.status in (100, 200)
        assert (reader.read() if answer.status == 100 else answer).status == 200


# -- what is not HTTP ------------------------------------------------------------------------------

GARBAGE: dict[str, bytes] = {
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(200),
    "zeros": bytes(500),
    "high bytes": b"\xff" * 500,
    "words": b"hello there\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET /v2 HTTP/7.3\r\nHost: a\r\n\r\n",
    "no version at all": b"GET /v2 FTP\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank in a name": head("GET", "/v2", "Bad Name: 1"),
    "no colon": head("GET", "/v2", "nonsense"),
    "NUL in a value": head("GET", "/v2", "X-A: a\0b"),
    "length a word": head("POST", "/v2/models/mlp/infer", "Content-Length: many"),
    "length negative": head("POST", "/v2/models/mlp/infer", "Content-Length: -5"),
    "length signed": head("POST", "/v2/models/mlp/infer", "Content-Length: +5"),
    "two lengths": head("POST", "/v2/models/mlp/infer", "Content-Length: 5", "Content-Length: 6"),
    "length and chunks": head(
        "POST", "/v2/models/mlp/infer", "Content-Length: 5", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n",
    "chunk size a word": head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked")
    + b"zz\r\n",
    "chunk too long": head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked")
    + b"1\r\nabc\r\n0\r\n\r\n",
    "chunk size over 64 bits": head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked")
    + b"f" * 17
    + b"\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_http_is_refused_and_closed(server: RunningServer, data: bytes) -> None:
    answer, closed = exchange(server, data)
    assert closed
    assert answer.status in (400, 501, 505), answer
    assert_refused(server, answer, answer.status, "")


@pytest.mark.parametrize("tail", [b"", b"\r\n\r\n"], ids=["never ending", "whole"])
@pytest.mark.parametrize("field", [b"X-Long: %b", b"%b", b"X: y%b"], ids=["value", "name", "both"])
def test_head_that_is_too_large_is_refused(
    server: RunningServer, field: bytes, tail: bytes
) -> None:
    start = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"
    long = field % (b"a" * MAX_HEAD * 2)
    answer, closed = exchange(server, start + long + (b": 1" + tail if tail else b""))
    assert closed
    assert_refused(server, answer, 431, "request head is too large")


def test_target_that_is_too_long_is_refused(server: RunningServer) -> None:
    answer, closed = exchange(server, head("GET", "/" + "a" * MAX_HEAD * 2))
    assert closed
    assert answer.status in (414, 431), answer
    assert_refused(server, answer, answer.status, "too large")


def test_too_many_headers_are_refused(server: RunningServer) -> None:
    fields = [f"X-{number}: {number}" for number in range(20_000)]
    answer, closed = exchange(server, head("GET", "/v2", *fields))
    assert closed
    assert_refused(server, answer, 431, "request head is too large")


def test_trailers_that_are_too_large_are_refused(server: RunningServer) -> None:
    start = head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked")
    trailers = b"".join(b"X-%d: %b\r\n" % (i, b"a" * 1000) for i in range(1000))
    answer, closed = exchange(server, start + b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n")
    assert closed
    assert answer.status in (400, 413, 431), answer
    assert_refused(server, answer, answer.status, "")


def test_trailers_are_not_taken_for_headers(server: RunningServer) -> None:
    body = json.dumps(GOOD_BODY).encode()
    start = head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked")
    chunk = b"%x\r\n%b\r\n0\r\nContent-Encoding: br\r\n\r\n" % (len(body), body)
    answer, _ = exchange(server, start + chunk)
    assert answer.status == 200, answer


# -- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("part", [10, 100, 200, 400])
def test_upload_that_is_cut_off_is_forgotten(server: RunningServer, part: int, reset: bool) -> None:
    data = infer_bytes("identity_fp32", marked(1), "X-Pad: " + "a" * 200)
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(data[:part])
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
    assert_serves(server)
    assert server.metric("inferd_in_flight", model="identity_fp32", version="1") == 0


def test_request_of_a_client_that_leaves_the_queue_is_given_up(server: RunningServer) -> None:
    data = infer_bytes("slow", one("FP32", [1, 1], [1]))

    def in_flight() -> float:
        return server.metric("inferd_in_flight", model="slow", version="1")

    def given_up() -> float:
        """Of many who leave: who comes late finds that all have run already, so try again."""
        executed = server.metric("nv_inference_count", model="slow", version="1")
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(400)]
            for connection in connections:
                connection.sendall(data)
            eventually(lambda: in_flight() > 1, "requests are waiting")
        eventually(lambda: in_flight() == 0, "no request is in flight")
        return executed + 400 - server.metric("nv_inference_count", model="slow", version="1")

    assert any(given_up() > 0 for _ in range(10))
    assert server.infer("slow", one("FP32", [1, 1], [1])).status == 200
    assert_serves(server)


def test_2000_idle_connections_leave_room_for_an_active_one(server: RunningServer) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(2000)]
        for connection in idle[::10]:
            connection.sendall(b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost:")
        for _ in range(20):
            assert_serves(server)
        for connection in idle[5::400]:
            connection.sendall(infer_bytes("mlp", GOOD_BODY))
            assert AnswerReader(connection).read().status == 200
    assert_serves(server)
