"""Traffic for tests: threads that ask again and again, and requests in the background."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .process import Answer, ServerProcess, json_input, wait_until


def one(value: float = 0.0) -> dict[str, Any]:
    """A request for a model whose INPUT0 is one number a row."""
    return {"inputs": [json_input("INPUT0", "FP32", [1, 1], [value])]}


@dataclass(slots=True)
class Seen:
    """What the threads were answered: (status, model version, first value), in order."""

    answers: list[tuple[int, str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def statuses(self) -> set[int]:
        """Every status that was seen."""
        return {status for status, _, _ in self.answers}

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until so many more requests have been answered."""
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal, f"{count} more answers; {self.errors[:3]}")


@contextmanager
def traffic(server: ServerProcess, model: str, threads: int = 3) -> Iterator[Seen]:
    """Ask a model from several threads, each on one connection, until the block ends."""
    seen, stop = Seen(), threading.Event()
    running = [
        threading.Thread(target=_ask_on, args=(server.port, model, seen, stop))
        for _ in range(threads)
    ]
    for thread in running:
        thread.start()
    try:
        seen.wait_for_more()
        yield seen
    finally:
        stop.set()
        for thread in running:
            thread.join()


def _ask_on(port: int, model: str, seen: Seen, stop: threading.Event) -> None:
    body = json.dumps(one()).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not stop.is_set():
        try:
            connection.request("POST", f"/v2/models/{model}/infer", body)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            seen.errors.append(repr(error))
            break
        if answer.status == 200:
            value = document["outputs"][0]["data"][0]
            seen.answers.append((200, document["model_version"], value))
        else:
            seen.answers.append((answer.status, "", 0.0))
            seen.errors.append(document["error"])
            time.sleep(0.001)
    connection.close()


class Background:
    """One request that runs beside the test; `result` waits for its answer."""

    def __init__(self, server: ServerProcess, model: str, body: Any, **headers: str) -> None:
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._ask, args=(server, model, body, headers))
        self._thread.start()

    def _ask(self, server: ServerProcess, model: str, body: Any, headers: dict[str, str]) -> None:
        start_s = time.monotonic()
        try:
            self.answer = server.infer(model, body, **headers)
        except Exception as error:
            self.error = error
        self.seconds = time.monotonic() - start_s

    def done(self) -> bool:
        """Whether it has been answered."""
        return not self._thread.is_alive()

    def result(self) -> Answer:
        """The answer."""
        self._thread.join(60)
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "no answer within 60 s"
        return self.answer


def metrics(server: ServerProcess) -> dict[str, float]:
    """Every sample of the metrics page, by its line up to the value."""
    found = {}
    for line in server.get("/metrics").body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def metric(server: ServerProcess, name: str, model: str, version: str = "1") -> float:
    """One number of a model."""
    return metrics(server)[f'{name}{{model="{model}",version="{version}"}}']


def wait_in_flight(server: ServerProcess, model: str, running: int, queued: int) -> None:
    """Wait until exactly so many requests of a model run and so many wait."""

    def there() -> bool:
        values = metrics(server)
        labels = f'{{model="{model}",version="1"}}'
        waiting = values["nv_inference_pending_request_count" + labels]
        return waiting == queued and values["inferd_in_flight" + labels] == running + queued

    wait_until(there, f"{running} running and {queued} queued requests of {model}")
