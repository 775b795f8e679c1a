"""Large tensors to a server and back, over connections that each wait for their answer.

wrk reads 8 KiB at a time, which for bodies of megabytes would be most of what is measured; here
bodies are sent and read whole, by threads that wait in the kernel.
"""

import json
import socket
import threading
import time
from dataclasses import dataclass

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
    for client in clients:
        client.ask()
        client.check()
    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=client.ask_until, args=(end,)) for client in clients]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - start
    for client in clients:
        client.check()
        client.close()
    rate = sum(client.answers for client in clients) / passed
    return Bulk(rate, rate * workload.width * 4 / GIGA)


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
        self.answers = 0

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

    def ask_until(self, end: float) -> None:
        """Requests for a time; counts the answers."""
        self.answers = 0
        while time.perf_counter() < end:
            self.ask()
            self.answers += 1

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
