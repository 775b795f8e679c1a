import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.harness import RunningServer, eventually
from e2e.wire import GOOD_BODY, AnswerReader, assert_refused, assert_serves, head, infer_bytes

LIMIT_S = 1.0
LATEST_S = 4.0


@pytest.fixture(scope="module")
def strict(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that waits one second for heads and bodies."""
    log = tmp_path_factory.mktemp("strict") / "server.log"
    limits = ("--http-header-timeout-secs", "1", "--http-body-timeout-secs", "1")
    running = RunningServer(log, repository / "mlp", *limits)
    yield running
    running.stop()


GOOD = infer_bytes("mlp", GOOD_BODY)

STARTS: dict[str, tuple[bytes, str]] = {
    "request line": (b"POST /v2/mod", "head"),
    "head": (GOOD[: GOOD.index(b"\r\n\r\n")], "head"),
    "head behind a request": (GOOD + b"POST /v2/models/mlp/infer HTTP/1.1\r\nHo", "head"),
    "nothing of the body": (GOOD[: GOOD.index(b"\r\n\r\n") + 4], "body"),
    "half of the body": (GOOD[:-50], "body"),
    "no last chunk": (
        head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked") + b"1\r\n{\r\n",
        "body",
    ),
    "no trailers": (
        head("POST", "/v2/models/mlp/infer", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n",
        "body",
    ),
    "asking first": (
        head("POST", "/v2/models/mlp/infer", "Content-Length: 9", "Expect: 100-continue"),
        "body",
    ),
}


@pytest.mark.parametrize(("start", "part"), STARTS.values(), ids=STARTS)
def test_client_that_stops_in_the_middle_is_turned_away(
    strict: RunningServer, start: bytes, part: str
) -> None:
    with strict.connect() as connection:
        started_s = time.monotonic()
        connection.sendall(start)
        reader = AnswerReader(connection)
        answer = reader.read()
        while answer.status in (100, 200):
            answer = reader.read()
        assert time.monotonic() - started_s < LATEST_S
        assert answer.headers["connection"] == "close"
        assert_refused(strict, answer, 408, f"the request's {part} did not arrive in time")
        assert reader.at_end()


@pytest.mark.parametrize("start", [GOOD[:20], GOOD[:-50]], ids=["head", "body"])
def test_no_client_is_turned_away_before_its_time(strict: RunningServer, start: bytes) -> None:
    with ExitStack() as stack:
        started_s: dict[object, float] = {}
        selector = stack.enter_context(selectors.DefaultSelector())

        def take(ready: object) -> None:
            waited_s = time.monotonic() - started_s.pop(ready)
            assert LIMIT_S * 0.95 < waited_s < LATEST_S
            selector.unregister(ready)  # type: ignore[arg-type]

        for _ in range(10):  # at ten phases of whatever clock the server looks at
            connection = stack.enter_context(strict.connect())
            connection.sendall(start)
            started_s[connection] = time.monotonic()
            selector.register(connection, selectors.EVENT_READ)
            until_s = time.monotonic() + 0.1
            while (left_s := until_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    take(key.fileobj)
        while started_s:
            for key, _ in selector.select(LATEST_S):
                take(key.fileobj)
    assert_serves(strict)


def test_head_that_drips_is_turned_away(strict: RunningServer) -> None:
    with strict.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        connection.settimeout(0.05)
        started_s = time.monotonic()
        answer = b""
        while not answer:
            assert time.monotonic() - started_s < LATEST_S
            connection.sendall(b"X-Drip: 1\r\n")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert_serves(strict)


def test_body_that_goes_on_arriving_is_waited_for(strict: RunningServer) -> None:
    start = GOOD.index(b"\r\n\r\n") + 4
    pieces = [GOOD[i : i + 40] for i in range(start, len(GOOD), 40)]
    assert len(pieces) > 5
    with strict.connect() as connection:
        connection.sendall(GOOD[:start])
        for piece in pieces:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):  # nothing comes, for 0.3 s
                connection.recv(1)
            connection.sendall(piece)
        connection.settimeout(5)
        assert AnswerReader(connection).read().status == 200


def test_idle_connection_is_kept(strict: RunningServer) -> None:
    with strict.connect() as connection:
        reader = AnswerReader(connection)
        connection.sendall(GOOD)
        assert reader.read().status == 200
        connection.settimeout(2.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        connection.sendall(GOOD)
        assert AnswerReader(connection).read().status == 200


def test_client_that_does_not_read_is_dropped(strict: RunningServer) -> None:
    with strict.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        ask = head("GET", "/openapi.json") * 50

        def dropped() -> bool:
            try:
                connection.send(ask)
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        eventually(dropped, "the connection is dropped", 15)
    assert_serves(strict)
