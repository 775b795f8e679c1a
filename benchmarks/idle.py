"""What connections cost that ask for nothing: memory, and the time of one that does ask."""

import http.client
import json
import socket
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.processes import ServerProcess
from benchmarks.wires import Message

CONNECTIONS = 10_000
PER_ADDRESS = 5_000
REQUESTS = 3_000


@dataclass(frozen=True)
class IdleCost:
    """Before and with the idle connections: resident MiB and p50 of one active connection."""

    connections: int
    rss_before: float
    rss_with: float
    p50_before_ms: float
    p50_with_ms: float


def measure_idle(process: ServerProcess, message: Message) -> IdleCost:
    """Opens idle keep-alive connections, each of which has asked once, and measures beside them."""
    p50_before = active_p50_ms(process, message)
    before = process.memory().rss
    with ExitStack() as opened:
        for index in range(CONNECTIONS):
            opened.enter_context(idle_connection(process, index))
        p50_with = active_p50_ms(process, message)
        return IdleCost(CONNECTIONS, before, process.memory().rss, p50_before, p50_with)


def idle_connection(process: ServerProcess, index: int) -> socket.socket:
    """One connection, from one of several addresses since each has only so many ports."""
    source = f"127.0.0.{2 + index // PER_ADDRESS}"
    address = ("127.0.0.1", process.endpoint.port)
    connection = socket.create_connection(address, source_address=(source, 0))
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: idle\r\n\r\n")
    if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
        raise http.client.HTTPException("an idle connection was refused")
    return connection


def active_p50_ms(process: ServerProcess, message: Message) -> float:
    """The median time of requests sent one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", process.endpoint.port, timeout=30)
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        connection.request("POST", process.endpoint.path, message.body, message.headers)
        json.loads(connection.getresponse().read())
        times.append(time.perf_counter() - start)
    connection.close()
    return statistics.median(times) * 1000
