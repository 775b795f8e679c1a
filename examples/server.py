"""The server as a process: `python -m inferd serve`, waited for, and stopped with SIGTERM."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
LOOK_EVERY_S = 0.05


class ServerFailed(Exception):
    """The server did not start, or stopped by itself."""


@contextmanager
def running(model: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serve a model or a folder of them; ready on entry, stopped on exit."""
    command = [sys.executable, "-m", "inferd", "serve", str(model), "--http-port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, port, log)
        yield process
    finally:
        _stop(process)


def serve_on(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until Ctrl-C; raises ServerFailed when the server ends before."""
    try:
        process.wait()
    except KeyboardInterrupt:
        return
    raise ServerFailed(f"the server ended by itself; it said:\n{log.read_text()}")


def choose_port(preferred: int) -> int:
    """The preferred port if it is free, else one that is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerFailed("no free port")


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while not _ready(port):
        try:
            process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() < give_up:
                continue
        raise ServerFailed(f"the server did not start; it said:\n{log.read_text()}")


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
