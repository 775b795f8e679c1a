"""Requests and answers as bytes: what tests of the wire are written with.

It refuses to know processes (`harness.py`) and models, apart from the good request that every
server of these tests must go on answering.
"""

import gzip
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from e2e.harness import Answer, RunningServer
from models import mlp_answer

HEADER_LENGTH = "Inference-Header-Content-Length"

_X = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)


def tensor(
    name: str, datatype: str, shape: Sequence[Any], data: Any, **more: Any
) -> dict[str, Any]:
    """One input in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data, **more}


def one(datatype: str, shape: Sequence[Any], data: Any, **more: Any) -> dict[str, Any]:
    """A request with the input `x`, which most of the models have."""
    return {"inputs": [tensor("x", datatype, shape, data)], **more}


GOOD_BODY = one("FP32", [1, 16], _X.ravel().tolist())
"""What `mlp` answers."""


def head(method: str, path: str, *fields: str) -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def infer_bytes(model: str, body: Any, *fields: str) -> bytes:
    """An inference request as it goes over the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", f"/v2/models/{model}/infer", f"Content-Length: {len(data)}", *fields) + data


def binary_body(request: Mapping[str, Any], *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with binary tensors, and the header that it needs."""
    text = json.dumps(request).encode()
    return text + b"".join(blobs), {HEADER_LENGTH: str(len(text))}


def bytes_elements(*elements: bytes) -> bytes:
    """BYTES elements in binary."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


# -- answers ---------------------------------------------------------------------------------------


class AnswerReader:
    """Reads answers from a socket, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = b""

    def read(self) -> Answer:
        """The next answer; EOFError when the server has closed instead."""
        while b"\r\n\r\n" not in self._held:
            self._receive()
        text, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        version, status = first.split(" ")[:2]
        assert version == "HTTP/1.1", first
        pairs = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = 0 if int(status) < 200 else int(headers["content-length"])
        while len(self._held) < length:
            self._receive()
        body, self._held = self._held[:length], self._held[length:]
        return Answer(int(status), headers, body)

    def _receive(self) -> None:
        data = self._connection.recv(1 << 16)
        if not data:
            raise EOFError(f"closed without a whole answer: {self._held!r}")
        self._held += data

    def at_end(self) -> bool:
        """Whether the server has closed, without another byte; waits for either."""
        try:
            return not self._held and not self._connection.recv(1)
        except ConnectionResetError:
            return True


def exchange(server: RunningServer, data: bytes) -> tuple[Answer, bool]:
    """Send bytes on a connection of their own: the answer, and whether the server then closed."""
    with server.connect() as connection:
        connection.sendall(data)
        reader = AnswerReader(connection)
        answer = reader.read()
        closes = answer.headers.get("connection") == "close"
        return answer, closes and reader.at_end()


# -- what must hold --------------------------------------------------------------------------------


def assert_serves(server: RunningServer) -> None:
    """The server answers a good request, rightly."""
    answer = server.infer("mlp", GOOD_BODY)
    assert answer.status == 200, answer
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [1, 3]
    np.testing.assert_allclose(output["data"], mlp_answer(_X)[0], rtol=1e-5)


def assert_refused(server: RunningServer, answer: Answer, status: int, phrase: str) -> None:
    """An answer is the expected error, and the server still serves."""
    assert answer.status == status, answer
    assert phrase in answer.error
    assert_serves(server)


def assert_refuses(
    server: RunningServer, model: str, body: Any, phrase: str, status: int = 400
) -> None:
    """A request body is refused with the same words on each way that a request can take: the fast
    one, with headers that rule that out, and decoded on a thread."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    ways: list[tuple[bytes, dict[str, str]]] = [
        (data, {}),
        (data, {"x-request-timeout-ms": "60000"}),
        (gzip.compress(data, 1), {"Content-Encoding": "gzip"}),
    ]
    for sent, headers in ways:
        assert_refused(server, server.infer(model, sent, headers), status, phrase)
