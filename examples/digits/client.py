"""Asks the server as any program would: HTTP and JSON from the standard library, kept alive."""

import http.client
import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.digits.model import Array
from examples.server import HOST

PATH = "/v2/models/digits/infer"
TIMEOUT_S = 30.0


@dataclass(slots=True)
class Answers:
    """The digit that was answered for each image, what went wrong, and how long all took."""

    labels: dict[int, int] = field(default_factory=dict)
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def ask(
    port: int, images: Array, batch: int, rounds: int, threads: int, after: Callable[[], None]
) -> Answers:
    """Send every image `rounds` times, `batch` in a request, from `threads` connections."""
    jobs: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    bodies = [
        (start, request_body(images[start : start + batch]))
        for start in range(0, len(images), batch)
    ]
    for _ in range(rounds):
        for job in bodies:
            jobs.put(job)
    answers, lock = Answers(), threading.Lock()
    workers = [
        threading.Thread(target=_work, args=(port, jobs, answers, lock, after), daemon=True)
        for _ in range(threads)
    ]
    start_s = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    answers.seconds = time.perf_counter() - start_s
    return answers


def request_body(rows: Array) -> bytes:
    """An inference request of the Open Inference Protocol for rows of images."""
    shape, data = list(rows.shape), rows.ravel().tolist()
    tensor = {"name": "X", "shape": shape, "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def _work(
    port: int,
    jobs: "queue.SimpleQueue[tuple[int, bytes]]",
    answers: Answers,
    lock: threading.Lock,
    after: Callable[[], None],
) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    while True:
        try:
            first, body = jobs.get_nowait()
        except queue.Empty:
            break
        try:
            labels, failure = _infer(connection, body), ""
        except (OSError, http.client.HTTPException, LookupError, ValueError) as error:
            labels, failure = [], f"{type(error).__name__}: {error}"
            connection.close()  # the next request opens it again
        with lock:
            answers.requests += 1
            if failure:
                answers.failures.append(failure)
            for offset, label in enumerate(labels):
                known = answers.labels.setdefault(first + offset, label)
                if known != label:
                    answers.failures.append(f"image {first + offset}: {known}, then {label}")
        after()
    connection.close()


def _infer(connection: http.client.HTTPConnection, body: bytes) -> list[int]:
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {text[:200].decode(errors='replace')}")
    outputs = {output["name"]: output["data"] for output in json.loads(text)["outputs"]}
    return [int(label) for label in outputs["label"]]
