"""A real `inferd serve` process for a test, and what a test asks it with.

It refuses to know models and what a test looks for.
"""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SRC = Path(__file__).resolve().parents[2] / "src"
START_S = 180.0
STOP_S = 40.0
ANSWER_S = 5.0

_URL = re.compile(r"^inferd \S+ at (http://127\.0\.0\.1:(\d+))$", re.MULTILINE)

_GRPC = re.compile(r"^grpc: +(127\.0\.0\.1:\d+)$", re.MULTILINE)

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as strict JSON."""
        return json.loads(self.body, parse_constant=_not_json)

    @property
    def error(self) -> str:
        """The message of an error, once the answer has the shape that clients read."""
        assert self.headers["content-type"] == "application/json", self
        body = self.json()
        assert list(body) == ["error"], self
        assert isinstance(body["error"], str), self
        return body["error"]


def _not_json(token: str) -> None:
    raise AssertionError(f"{token} is not JSON")


def eventually(condition: Callable[[], T], what: str, timeout_s: float = ANSWER_S) -> T:
    """Poll until `condition` gives something true and return that; fail at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
    return value


def command(*arguments: str | Path) -> list[str]:
    """The command line of `inferd` with these arguments."""
    return [sys.executable, "-m", "inferd", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's environment with this checkout's package, and nothing that configures it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INFERD_")}
    return {**kept, "PYTHONPATH": str(SRC), "NO_COLOR": "1"}


class RunningServer:
    """A server process that has announced itself; its log is a file."""

    def __init__(self, log_file: Path, *arguments: str | Path) -> None:
        self._log_file = log_file
        with log_file.open("wb") as out:
            self.process = subprocess.Popen(
                command("serve", *arguments, "--http-port", "0"),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            eventually(self._announced, "server announced", START_S)
        except BaseException:
            self._end()
            raise
        announced = self._announced()
        assert announced is not None
        self.url = announced[1]
        self.port = int(announced[2])

    def _announced(self) -> "re.Match[str] | None":
        ended = self.process.poll()
        assert ended is None, f"the server has exited with {ended}:\n{self.log}"
        return _URL.search(self.log)

    @property
    def grpc(self) -> str:
        """Host and port of gRPC."""
        return eventually(lambda: _GRPC.search(self.log), "gRPC announced")[1]

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log_file.read_text(errors="replace")

    # -- asking -------------------------------------------------------------------------------

    def connect(self, timeout_s: float = ANSWER_S) -> socket.socket:
        """A socket of one's own."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def request(
        self, method: str, path: str, body: Any = None, headers: Headers | None = None
    ) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def get(self, path: str, headers: Headers | None = None) -> Answer:
        """GET."""
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any = b"", headers: Headers | None = None) -> Answer:
        """POST."""
        return self.request("POST", path, body, headers)

    def infer(self, model: str, body: Any, headers: Headers | None = None) -> Answer:
        """POST to a model's infer."""
        return self.post(f"/v2/models/{model}/infer", body, headers)

    def metric(self, name: str, **labels: str) -> float:
        """One number of /metrics; 0 where it is not there."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/metrics").body.decode().splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name and wanted <= set((found[2] or "").split(",")):
                return float(found[3])
        return 0.0

    # -- life ---------------------------------------------------------------------------------

    @contextmanager
    def limited_memory(self, more_bytes: int) -> Iterator[None]:
        """For a while it may have so many bytes of address space more than it has now."""
        pid = self.process.pid
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limits = resource.prlimit(pid, resource.RLIMIT_AS)
        allowed = pages * resource.getpagesize() + more_bytes
        resource.prlimit(pid, resource.RLIMIT_AS, (allowed, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_AS, limits)

    def stop(self) -> None:
        """SIGTERM; it must exit with status 0 and have logged no traceback."""
        assert self.process.poll() is None, f"the server has died:\n{self.log}"
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._end()
            raise AssertionError(f"did not stop within {STOP_S} s:\n{self.log}") from None
        assert status == 0, f"exit status {status}:\n{self.log}"
        start = self.log.find("Traceback")
        assert start < 0, (
            f"unexpected errors in the log, the first: {self.log[start : start + 3000]}"
        )

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Headers | None = None,
) -> Answer:
    """One request on a connection that may be used again."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, dict(headers or {}))
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, found, answer.read())
