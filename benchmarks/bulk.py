"""Large tensors to a server and back, over connections that each wait for their answer; and the
same over bare sockets, for comparison.

wrk reads 8 KiB at a time, which for bodies of megabytes would be most of what is measured; here
bodies are sent and read whole, by threads that wait in the kernel.
"""

import json
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.client import Endpoint, Mismatch
from benchmarks.wires import HEADER_LENGTH, V2_BINARY
from benchmarks.workloads import Workload

GIGA = 1e9


@dataclass(frozen=True)
class Bulk:
    """What went each way in a second, tensors only."""

    requests_per_second: float
    gb_per_second: float


def measure_bulk(endpoint: Endpoint, workload: Workload, connections: int, seconds: float) -> Bulk:
    """Sends one tensor again and again; raises Mismatch when it does not come back."""
    clients = [BulkClient(endpoint, workload, index) for index in range(connections)]
    return measure(clients, workload, seconds)


def measure_sockets(workload: Workload, connections: int, seconds: float) -> Bulk:
    """The same bytes there and back with nothing but a thread at the other end."""
    return measure([Echo(workload.width * 4) for _ in range(connections)], workload, seconds)


class Client(Protocol):
    """One connection that sends a tensor and waits for it."""

    def ask(self) -> None:
        """There and back."""

    def check(self) -> None:
        """Raises Mismatch unless what came back last is what was sent."""

    def close(self) -> None:
        """Ends the connection."""


def measure(clients: Sequence[Client], workload: Workload, seconds: float) -> Bulk:
    """Has each ask again and again, all at once, and closes them."""
    for client in clients:
        client.ask()
        client.check()
    start = time.perf_counter()

    def answers(client: Client) -> int:
        count = 0
        while time.perf_counter() < start + seconds:
            client.ask()
            count += 1
        return count

    with ThreadPoolExecutor(len(clients)) as threads:
        others = threads.map(answers, clients[1:])
        total = answers(clients[0]) + sum(
            others
        )  # a client may be bound to the thread that made it
    rate = total / (time.perf_counter() - start)
    for client in clients:
        client.check()
        client.close()
    return Bulk(rate, rate * workload.width * 4 / GIGA)


class Echo:
    """Two sockets: what one sends comes back from the other, once it is there as a whole."""

    def __init__(self, size: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._near = socket.create_connection(listener.getsockname())
            self._far, _ = listener.accept()
        self._sent = np.random.default_rng(size).bytes(size)
        self._back = bytearray(size)
        self._thread = threading.Thread(target=self._give_back, daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """There and back."""
        self._near.sendall(self._sent)
        self._near.recv_into(self._back, 0, socket.MSG_WAITALL)

    def check(self) -> None:
        """Raises Mismatch unless what came back last is what was sent."""
        if self._back != self._sent:
            raise Mismatch("other bytes came back")

    def close(self) -> None:
        """Ends both sockets."""
        self._near.close()
        self._thread.join()
        self._far.close()

    def _give_back(self) -> None:
        buffer = bytearray(len(self._sent))
        while self._far.recv_into(buffer, 0, socket.MSG_WAITALL):
            self._far.sendall(buffer)


class BulkClient:
    """One connection, and a buffer that takes each answer."""

    def __init__(self, endpoint: Endpoint, workload: Workload, seed: int) -> None:
        row = np.random.default_rng(seed).normal(size=workload.width).astype(np.float32)
        message = V2_BINARY.encode(workload, row)
        headers = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
        head = (
            f"POST {endpoint.path} HTTP/1.1\r\nHost: bench\r\n{headers}"
            f"Content-Length: {len(message.body)}\r\n\r\n"
        )
        self._tensor = row.tobytes()
        self._request = head.encode() + message.body
        self._buffer = bytearray(len(message.body) + (1 << 16))
        self._socket = socket.create_connection(("127.0.0.1", endpoint.port))
        self._socket.settimeout(60)
        self._end = 0
        self._start = 0

    def ask(self) -> None:
        """One request and its whole answer."""
        self._socket.sendall(self._request)
        view = memoryview(self._buffer)
        got = 0
        while (head := self._buffer.find(b"\r\n\r\n", 0, got)) < 0:
            got += self._received(view[got:])
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            raise Mismatch(f"answered {bytes(self._buffer[:got])[:300]!r}")
        self._start = head + 4
        self._end = self._start + self._number(head, "Content-Length")
        while got < self._end:
            got += self._received(view[got : self._end])

    def check(self) -> None:
        """Raises Mismatch unless the last answer is the tensor that was sent."""
        start = self._start + self._number(self._start - 4, HEADER_LENGTH)
        described = json.loads(self._buffer[self._start : start])["outputs"]
        if len(described) != 1 or self._buffer[start : self._end] != self._tensor:
            raise Mismatch(f"another tensor came back: {described}")

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _received(self, view: memoryview) -> int:
        count = self._socket.recv_into(view)
        if not count:
            raise Mismatch("the server closed the connection")
        return count

    def _number(self, head: int, name: str) -> int:
        for line in bytes(self._buffer[:head]).split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().lower() == name.lower():
                return int(value)
        raise Mismatch(f"the answer has no {name} header")
