"""The two servers, each started on a repository that neither has seen changed."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import START_TIMEOUT, STOP_TIMEOUT, ServerError, free_ports

PEER = Path(__file__).parents[1] / "peers" / "triton"
READY_LOOK_S = 0.02


@dataclass(frozen=True)
class Ports:
    """Where a server answers."""

    http: int
    grpc: int


@contextmanager
def running(name: str, python: Path, repository: Path, logs: Path) -> Iterator[Ports]:
    """Starts `inferd` or `triton` and waits until all of the repository is ready."""
    ports = Ports(*free_ports(2))
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}-{repository.name}.log"
    told = {
        # By which Triton's Python backend finds the Python, and so the numpy, that it runs.
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "BENCH_REPOSITORY": str(repository),
        "BENCH_PORT": str(ports.http),
        "BENCH_GRPC_PORT": str(ports.grpc),
    }
    command = [str(python), "serve.py"]
    if name == "inferd":
        command = [
            str(python), "-m", "inferd", "serve", "--model-repository", str(repository),
            "--http-port", str(ports.http), "--grpc-port", str(ports.grpc),
            "--shared-memory", "system", "--http-max-input-size", str(1 << 30),
        ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **told}, cwd=PEER, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_ready(process, ports.http, log)
        yield ports
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10):
                return
        except (OSError, urllib.error.URLError) as error:
            if process.poll() is not None or time.monotonic() > end:
                tail = log.read_text(errors="replace")[-2000:]
                raise ServerError(f"did not become ready: {error}\n{tail}") from error
        time.sleep(READY_LOOK_S)
