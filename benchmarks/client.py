"""A plain HTTP client that compares a server's answers with the right ones."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.wires import Answer, Message, Row, Wire
from benchmarks.workloads import SAMPLES, Task


class Mismatch(Exception):
    """An answer was refused, unreadable or wrong."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers on this machine."""

    port: int
    path: str

    @property
    def url(self) -> str:
        """The whole address."""
        return f"http://127.0.0.1:{self.port}{self.path}"


def post(endpoint: Endpoint, message: Message, timeout: float) -> http.client.HTTPResponse:
    """Sends one request on a connection of its own; the body can be read from the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=timeout)
    connection.request("POST", endpoint.path, message.body, message.headers)
    return connection.getresponse()


def check_answer(
    endpoint: Endpoint, wire: Wire, task: Task, sample: int, timeout: float = 60.0
) -> float:
    """Sends one of the workload's requests and raises unless its answer is right; gives how far it
    is off, as a part of the largest value."""
    message = wire.encode(task.workload, task.workload.rows()[sample])
    try:
        response = post(endpoint, message, timeout)
        body = response.read()
        if response.status != http.client.OK:
            raise Mismatch(f"status {response.status}: {body[:300]!r}")
        answer = wire.decode(response.headers, body)
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise Mismatch(f"unreadable answer: {error!r}") from error
    return how_far_off(answer, task.expected[sample], task.workload.tolerance)


def how_far_off(answer: Answer, expected: Row, tolerance: float) -> float:
    """How far an answer is off, as a part of the largest value; raises Mismatch for too far."""
    if answer.shape != expected.shape:
        raise Mismatch(f"an answer of {answer.size} numbers for {expected.size}")
    apart = np.abs(answer - expected).max() / np.abs(expected).max()
    if not apart <= tolerance:
        raise Mismatch(f"wrong answer: {answer[:4]} for {expected[:4]}")
    return float(apart)


def check_all_at_once(endpoint: Endpoint, wire: Wire, task: Task) -> float:
    """Sends all different requests together: each must get its own answer back; gives how far the
    worst is off."""
    with ThreadPoolExecutor(SAMPLES) as pool:
        results = [
            pool.submit(check_answer, endpoint, wire, task, sample) for sample in range(SAMPLES)
        ]
        return max(result.result() for result in results)
