"""A real server around models under test, as a process of its own on a free port.

    def test_digits() -> None:
        with inferd.testing.serve(Digits) as server:
            assert server.predict(image=[0.0] * 64) == 4

A class may also be tested without a server: make it, call `load` and `predict`.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from inferd.embedded.options import path_of
from inferd.repository.layout import scan
from inferd.sdk.model import Model

START_S: Final = 120.0

_AT = re.compile(r"^inferd \S+ at (http://\S+)$")


class ServerFailed(AssertionError):
    """The server did not start, or answered with an error; the message has what it said."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TestServer:
    """A server that runs; `models` are the names of all it was started for."""

    __test__ = False  # to pytest: no tests in here

    def __init__(self, process: "subprocess.Popen[str]", models: tuple[str, ...]) -> None:
        self.url = ""
        self.models = models
        self.log: list[str] = []
        """What it has said, line by line."""
        self._process = process
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def predict(self, model: str = "", /, **arguments: Any) -> Any:
        """The answer of a model, by default the first, to named arguments as plain JSON has them.

        Raises ServerFailed with the server's error and its status.
        """
        with self._post(model, arguments, "application/json") as response:
            return json.loads(_whole(response))

    def stream(self, model: str = "", /, **arguments: Any) -> Iterator[Any]:
        """The parts of a streamed answer, as they come; raises as `predict`."""
        with self._post(model, arguments, "text/event-stream") as response:
            if response.status != 200:
                _whole(response)
            event = ""
            for line in response:
                field, _, value = line.decode().rstrip("\r\n").partition(": ")
                if field == "event":
                    event = value
                elif field == "data" and event == "error":
                    raise ServerFailed(value, response.status)
                elif field == "data" and event != "done":
                    yield json.loads(value)
                elif not field:
                    event = ""

    def stop(self) -> int:
        """Stop it as an operator would; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._reader.join()

    def wait(self) -> None:
        """Wait until it serves; raises ServerFailed with what it said."""
        if not self._started.wait(START_S) or not self.url:
            self.stop()
            raise ServerFailed("the server did not start:\n" + "\n".join(self.log[-30:]))

    @contextmanager
    def _post(self, model: str, arguments: dict[str, Any], accept: str) -> Iterator[HTTPResponse]:
        with closing(HTTPConnection(urlsplit(self.url).netloc, timeout=START_S)) as connection:
            headers = {"content-type": "application/json", "accept": accept}
            path = f"/models/{quote(model or self.models[0], safe='')}"
            connection.request("POST", path, json.dumps(arguments), headers)
            with connection.getresponse() as response:
                yield response

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip("\n"))
                if found := _AT.match(self.log[-1]):
                    self.url = found[1]
                    self._started.set()
        self._started.set()


@contextmanager
def serve(*models: type[Model] | str | Path, options: tuple[str, ...] = ()) -> Iterator[TestServer]:
    """Serve classes, or anything that `inferd serve` takes, while the context is open.

    `options` are more arguments of the command line. Raises ServerFailed.
    """
    paths = [path_of(model) for model in models]
    command = [sys.executable, "-m", "inferd", "serve", *paths, "--http-port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    server = TestServer(process, tuple(name for model in models for name in _names(model)))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def _names(model: type[Model] | str | Path) -> list[str]:
    """As the server will name what a path holds, in its order."""
    return [model.options.name] if isinstance(model, type) else list(scan([Path(model)]))


def _whole(response: HTTPResponse) -> bytes:
    body = response.read()
    if response.status != 200:
        raise ServerFailed(f"{response.status}: {body.decode(errors='replace')}", response.status)
    return body
