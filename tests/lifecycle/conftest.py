"""A repository to fill and servers to start, of a test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .onnx_models import Repository
from .process import ServerProcess

Start = Callable[..., ServerProcess]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def start(tmp_path: Path, repository: Repository) -> Iterator[Start]:
    """Start a server on the repository; `wait=False` does not wait until it is ready."""
    started: list[ServerProcess] = []

    def start_one(*arguments: Any, wait: bool = True, **ports: Any) -> ServerProcess:
        log = tmp_path / f"server-{len(started)}.log"
        server = ServerProcess(log, repository.root, *arguments, **ports)
        started.append(server)
        return server.wait_ready() if wait else server

    yield start_one
    for server in started:
        server.stop()
