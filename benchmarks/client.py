"""A plain HTTP client that compares a server's answers with the right ones."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.wires import Message, Wire
from benchmarks.workloads import SAMPLES, Task

RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4


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
) -> None:
    """Sends one of the workload's requests and raises unless its answer is right."""
    message = wire.encode(task.workload, task.workload.rows()[sample])
    try:
        response = post(endpoint, message, timeout)
        body = response.read()
        if response.status != http.client.OK:
            raise Mismatch(f"status {response.status}: {body[:300]!r}")
        answer = wire.decode(response.headers, body)
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise Mismatch(f"unreadable answer: {error!r}") from error
    expected = task.expected[sample]
    if answer.shape != expected.shape or not np.allclose(
        answer, expected, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE
    ):
        raise Mismatch(f"wrong answer: {answer.ravel()[:4]} for {expected[:4]}")


def check_all_at_once(endpoint: Endpoint, wire: Wire, task: Task) -> None:
    """Sends all different requests together: each must get its own answer back."""
    with ThreadPoolExecutor(SAMPLES) as pool:
        for result in [
            pool.submit(check_answer, endpoint, wire, task, sample) for sample in range(SAMPLES)
        ]:
            result.result()
