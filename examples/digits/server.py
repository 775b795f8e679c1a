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
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
LOOK_EVERY_S = 0.05


class ServerFailed(Exception):
    """The server did not start, or stopped by itself."""


@contextmanager
def running(models: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serve a folder of models; ready on entry, stopped on exit."""
    command = [sys.executable, "-m", "inferd", "serve", str(models), "--http-port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, port, log)
        yield process
    finally:
        _stop(process)


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
