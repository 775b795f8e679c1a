"""Mixed good and bad traffic for a while: does the server stay ready, right, and the same size?

    PYTHONPATH=src python -m tests.lifecycle.soak --seconds 300

Two rounds of the same traffic, memory is compared after each, with nothing in flight: the first
fills pools and caches, what the second adds is a leak.
"""

import argparse
import http.client
import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .onnx_models import STEPS_PER_MS, Repository, constant, identity, weights, work
from .process import ServerProcess, json_input, wait_until
from .traffic import metrics, one

MAX_INPUT_BYTES = 1024 * 1024
MAX_GROWTH_MB = 15.0
PARTIAL = b'POST /v2/models/rows/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{"inputs"'
WHOLE = b"POST /v2/models/work/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
MALFORMED = [
    b"", b"{", b"[]", b"null", b"[" * 2000, b'{"inputs":[]}', b"\xff\xfe\x00", b'{"inputs":' * 50,
    b'{"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","data":[1,2,3]}]}',
    b'{"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","data":["a","b","c","d"]}]}',
    b'{"inputs":[{"name":"INPUT0","shape":[9999,4],"datatype":"FP32","data":[]}]}',
]  # fmt: skip


@dataclass(slots=True)
class Report:
    """What came of it; memory in MB."""

    sent: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that were not what they had to be."""
    before_mb: float = 0.0
    after_mb: float = 0.0
    ready: bool = False

    @property
    def growth_mb(self) -> float:
        """What the second round added."""
        return self.after_mb - self.before_mb

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.sent.items()))
        memory = f"RSS {self.before_mb:.1f} -> {self.after_mb:.1f} MB ({self.growth_mb:+.1f})"
        return f"{memory}; {counts}; wrong {len(self.wrong)} {self.wrong[:3]}; ready {self.ready}"


class Sender:
    """One kind of traffic on one thread and, where it can be kept, one connection."""

    def __init__(self, server: ServerProcess, report: Report) -> None:
        self.server = server
        self.report = report
        self.number = 0
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer; a connection that the server closed is opened again."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", path, body, named)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def expect(self, kind: str, right: bool, found: object) -> None:
        """Count one request, and note it when its answer is wrong."""
        self.report.sent[kind] += 1
        if not right:
            self.report.wrong.append(f"{kind}: {found!r}"[:300])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # -- kinds of traffic ---------------------------------------------------------------------

    def good_json(self) -> None:
        """A few rows; the answer must be the same rows."""
        rows = 1 + self.number % 8
        data = [float(self.number % 1000 + i) for i in range(rows * 4)]
        body = {"inputs": [json_input("INPUT0", "FP32", [rows, 4], data)]}
        status, answer = self.post("/v2/models/rows/infer", json.dumps(body).encode())
        right = status == 200 and json.loads(answer)["outputs"][0]["data"] == data
        self.expect("json", right, (status, answer))

    def good_binary(self) -> None:
        """One large tensor, sometimes compressed on the way back."""
        blob = bytes([self.number % 256]) * 16 * (1 + self.number % 2000)
        made = {"name": "INPUT0", "datatype": "UINT8", "shape": [1, len(blob)]}
        header = json.dumps({
            "inputs": [made | {"parameters": {"binary_data_size": len(blob)}}],
            "parameters": {"binary_data_output": True},
        }).encode()  # fmt: skip
        lengths = {"inference_header_content_length": str(len(header))}
        status, answer = self.post("/v2/models/bytes/infer", header + blob, **lengths)
        self.expect("binary", status == 200 and answer.endswith(blob), (status, answer[:200]))

    def malformed(self) -> None:
        """Bodies that are no request: 400, and the connection goes on."""
        body = MALFORMED[self.number % len(MALFORMED)]
        lengths = {"inference_header_content_length": "-7"} if self.number % 5 == 0 else {}
        status, answer = self.post("/v2/models/rows/infer", body, **lengths)
        self.expect("malformed", status == 400, (status, answer))

    def oversized(self) -> None:
        """More bytes than are allowed: refused, whether or not all of them could be sent."""
        try:
            status, answer = self.post("/v2/models/rows/infer", b" " * (MAX_INPUT_BYTES + 1))
        except (OSError, http.client.HTTPException):
            status, answer = 413, b"closed while sending"
            self._connection.close()
        self.expect("oversized", status == 413, (status, answer))

    def disconnects(self) -> None:
        """Leave in the middle of a body, and while a request runs."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as left:
            if self.number % 2:
                left.sendall(PARTIAL)
            else:
                body = json.dumps(one(20 * STEPS_PER_MS)).encode()
                left.sendall(WHOLE % (len(body), body))
        self.expect("disconnect", True, None)

    def loads(self) -> None:
        """A model comes and goes."""
        action = "unload" if self.number % 2 else "load"
        status, answer = self.post(f"/v2/repository/models/weights/{action}", b"")
        self.expect("load", status == 200, (status, answer))

    def looks(self) -> None:
        """What dashboards and probes ask."""
        for path in ("/metrics", "/v2/models/stats", "/v2/models/rows/config"):
            answer = self.server.get(path)
            self.expect("look", answer.status == 200, answer)
        self.expect("look", self.server.ready(), "not ready")


KINDS: tuple[Callable[[Sender], None], ...] = (
    Sender.good_json, Sender.good_json, Sender.good_binary, Sender.malformed, Sender.oversized,
    Sender.disconnects, Sender.loads, Sender.looks,
)  # fmt: skip
PAUSE_S = {Sender.oversized: 0.05, Sender.disconnects: 0.02, Sender.loads: 0.1, Sender.looks: 0.1}


def run_soak(folder: Path, seconds: float, warm_up_s: float) -> Report:
    """Two rounds of all kinds of traffic against a new server."""
    repository = Repository(folder / "repository")
    repository.add("rows", identity(), config={"max_batch_size": 8})
    repository.add("bytes", identity("UINT8", ("n", "m")), config={"max_batch_size": 8})
    repository.add("work", work(), config={"max_batch_size": 8})
    repository.add("steady", constant(1))
    repository.add("weights", weights(20), config={"required": False})
    server = ServerProcess(
        folder / "server.log", repository.root, "--model-control-mode", "explicit",
        "--load-model", "*", "--http-max-input-size", str(MAX_INPUT_BYTES),
    )  # fmt: skip
    report = Report()
    try:
        server.wait_ready()
        report.before_mb = _round(server, report, warm_up_s)
        report.after_mb = _round(server, report, seconds)
        report.ready = server.ready()
        answer = server.infer("steady", one())
        if answer.status != 200:
            report.wrong.append(f"at the end: {answer}")
    finally:
        status = server.stop()
    if status:
        report.wrong.append(f"exit status {status}")
    return report


def _round(server: ServerProcess, report: Report, seconds: float) -> float:
    """Traffic for so many seconds, then quiet; the resident memory."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_send, args=(Sender(server, report), kind, stop)) for kind in KINDS
    ]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    server.unload("weights")
    wait_until(lambda: server.state("weights") == "UNAVAILABLE", "the model is unloaded")
    wait_until(lambda: in_flight(server) == 0, "nothing is in flight")
    return server.resident_mb()


def in_flight(server: ServerProcess) -> float:
    """Requests of all models that are not answered yet."""
    values = metrics(server).items()
    return sum(value for name, value in values if name.startswith("inferd_in_flight"))


def _send(sender: Sender, kind: Callable[[Sender], None], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            kind(sender)
        except Exception as error:
            sender.expect(kind.__name__, False, error)
            sender.close()
        sender.number += 1
        stop.wait(PAUSE_S.get(kind, 0))
    sender.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--warm-up-seconds", type=float, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run_soak(Path(folder), options.seconds, options.warm_up_seconds)
    print(report)
    return 0 if report.ready and not report.wrong and report.growth_mb < MAX_GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
