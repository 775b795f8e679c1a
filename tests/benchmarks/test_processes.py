"""A server that does not become ready: what it said last is told."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.processes import ServerError, ServerProcess
from benchmarks.servers import Launch, Server
from benchmarks.wires import V2
from benchmarks.workloads import MLP, Task

Start = Callable[[int], ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that listens nowhere and lives until it is ended."""
    started = []

    def made(port: int) -> ServerProcess:
        server = Server("still", "still", lambda _: ["tail", "-f", "/dev/null"], V2)
        launch = Launch(Path(sys.executable), Task(MLP, tmp_path), port, (0, 0), {})
        started.append(ServerProcess(server, launch, tmp_path / "log"))
        return started[-1]

    yield made
    for process in started:
        process.stop()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 7\r\n\r\nloading", "status 503: b'loading'"),
        (b"nothing of the kind\r\n\r\n", "BadStatusLine"),
        (b"", "Remote end closed connection"),
    ],
)
def test_the_last_answer_is_in_the_error(start: Start, answer: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_one() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_one)
        thread.start()
        with pytest.raises(ServerError, match=told):
            start(listener.getsockname()[1]).wait_until_ready(timeout=0)
        thread.join()
