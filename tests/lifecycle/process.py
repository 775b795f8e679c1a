"""A real `inferd serve` process for a test: start it, wait for it, ask it, stop it.

It refuses to know models and what a test looks for.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[2] / "src"
START_S = 180.0
STOP_S = 45.0
_GRPC = re.compile(r"^grpc: +(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error."""
        return str(self.json()["error"])


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Poll until `condition` gives something true and return that; fail at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)
    return value


def free_port() -> int:
    """A port that nothing listens on now, nor on the next one, which is for gRPC."""
    while True:
        with socket.socket() as probe, socket.socket() as following:
            for one in (probe, following):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                following.bind(("127.0.0.1", port + 1))
                return port


def command(*arguments: str | Path) -> list[str]:
    """The command line of `inferd` with these arguments."""
    return [sys.executable, "-m", "inferd", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's environment, with this checkout's package and nothing that configures it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INFERD_")}
    return {**kept, "PYTHONPATH": str(SRC), "NO_COLOR": "1"}


class ServerProcess:
    """One server; its log goes to a file, to be shown when something fails."""

    def __init__(
        self, log: Path, *arguments: str | Path, port: int = 0, grpc_port: int | None = 0
    ) -> None:
        self.port = port or free_port()
        self.log = log
        if grpc_port is not None:
            arguments = "--grpc-port", str(grpc_port), *arguments
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command("serve", *arguments, "--http-port", str(self.port)),
                env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    @property
    def address(self) -> str:
        """Host and port, as tritonclient wants them."""
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        """Host and port of gRPC."""
        found = wait_until(lambda: _GRPC.search(self.log_text()), "gRPC announced")
        return str(found[1])

    # -- asking -------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Answer:
        """One request on a connection of its own; raises OSError when there is nobody."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            connection.request(method, path, data, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """GET."""
        return self.request("GET", path)

    def infer(self, model: str, body: Mapping[str, Any], **headers: str) -> Answer:
        """An inference request in JSON; `x_request_id=...` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", f"/v2/models/{model}/infer", body, named)

    def status(self, path: str) -> int:
        """The status of a GET; 0 when nothing listens or the connection is dropped."""
        try:
            return self.get(path).status
        except (OSError, http.client.HTTPException):
            return 0

    def ready(self) -> bool:
        """Whether the server says that it is."""
        return self.status("/v2/health/ready") == 200

    def index(self) -> dict[tuple[str, str], dict[str, str]]:
        """The repository index by model and version."""
        lines = self.request("POST", "/v2/repository/index").json()
        return {(line["name"], line.get("version", "")): line for line in lines}

    def state(self, model: str, version: str = "1") -> str:
        """State of a model's version in the index; empty when it is not there."""
        return self.index().get((model, version), {}).get("state", "")

    def statistics(self, model: str, version: str = "1") -> dict[str, Any]:
        """The statistics of a version."""
        answer = self.get(f"/v2/models/{model}/versions/{version}/stats")
        assert answer.status == 200, answer.body
        (entry,) = answer.json()["model_stats"]
        assert isinstance(entry, dict)
        return entry

    def load(self, model: str) -> Answer:
        """Ask for a model to be loaded."""
        return self.request("POST", f"/v2/repository/models/{model}/load")

    def unload(self, model: str) -> Answer:
        """Ask for a model to be unloaded."""
        return self.request("POST", f"/v2/repository/models/{model}/unload")

    def resident_mb(self) -> float:
        """Resident memory of the process in MB."""
        return resident_mb(self.process.pid)

    # -- life ---------------------------------------------------------------------------------

    def wait_ready(self) -> "ServerProcess":
        """Wait until it is ready."""
        return self._wait_for(self.ready, "ready")

    def wait_listening(self) -> "ServerProcess":
        """Wait until it answers at all."""
        return self._wait_for(lambda: self.status("/v2/health/live") != 0, "listening")

    def _wait_for(self, condition: Callable[[], bool], what: str) -> "ServerProcess":
        def there() -> bool:
            assert self.process.poll() is None, f"server exited:\n{self.log_text()}"
            return condition()

        try:
            wait_until(there, f"server {what}", START_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()}") from None
        return self

    def log_text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit status, once it has ended."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """End it, by force if it must be; the exit status. Nothing may have been raised where
        nobody catches it."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        log = self.log_text()
        start = log.find("Exception in callback")
        assert start < 0, log[start : start + 3000]
        return self.process.returncode


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no VmRSS")


def json_input(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """One input of a request in JSON."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}
