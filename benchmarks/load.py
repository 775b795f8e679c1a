"""Load from wrk: writes its request files, runs it and reads its figures."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.client import Endpoint, post
from benchmarks.wires import Message, Wire
from benchmarks.workloads import Workload

SCRIPT = Path(__file__).with_name("wrk.lua")
REQUEST_TIMEOUT = 30


class LoadError(Exception):
    """wrk is missing or failed."""


@dataclass(frozen=True)
class Figures:
    """What one wrk run measured; requests answered with an error status do not count."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    bad_status: int
    socket_errors: int


def require_wrk() -> str:
    """Gives wrk's version, or says how to install it."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return done.stdout.split("Copyright")[0].strip()


@dataclass(frozen=True)
class Load:
    """Requests prepared in a folder, to be sent to one endpoint."""

    endpoint: Endpoint
    folder: Path
    message: Message

    def run(self, connections: int, seconds: float) -> Figures:
        """Keeps so many connections busy for a time (whole seconds, at least one)."""
        duration = max(1, round(seconds))
        flags = ["-t1", f"-c{connections}", f"-d{duration}s", f"--timeout={REQUEST_TIMEOUT}s"]
        headers = [f"{name}: {value}" for name, value in self.message.headers.items()]
        script = ["--latency", "-s", str(SCRIPT), self.endpoint.url, "--", str(self.folder)]
        done = subprocess.run(
            ["wrk", *flags, *script, *headers],
            capture_output=True,
            text=True,
            check=False,
            timeout=duration + 3 * REQUEST_TIMEOUT,
        )
        self.drain()
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            raise LoadError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
        return read_figures(lines[-1])

    def drain(self) -> None:
        """Sends one request and waits for it: behind it, what wrk left behind is done."""
        post(self.endpoint, self.message, timeout=3 * REQUEST_TIMEOUT).read()


def read_figures(line: str) -> Figures:
    """Reads the line that wrk.lua printed."""
    raw = json.loads(line)
    return Figures(
        requests_per_second=(raw["requests"] - raw["bad_status"]) / raw["seconds"],
        p50_ms=raw["p50_ms"],
        p99_ms=raw["p99_ms"],
        bad_status=raw["bad_status"],
        socket_errors=sum(raw[kind] for kind in ("connect", "read", "write", "timeout")),
    )


@contextmanager
def prepared(endpoint: Endpoint, wire: Wire, workload: Workload) -> Iterator[Load]:
    """Writes the workload's requests to files for as long as the load is needed."""
    messages = [wire.encode(workload, row) for row in workload.rows()]
    with TemporaryDirectory(prefix="inferd-bench-") as name:
        folder = Path(name)
        for index, message in enumerate(messages):
            (folder / f"{index}.body").write_bytes(message.body)
        yield Load(endpoint, folder, messages[0])
