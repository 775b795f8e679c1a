import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from grpc import aio

from e2e.harness import RunningServer
from models import write_standard_repository

Serve = Callable[..., RunningServer]

# A shell that starts the tests in the background has Ctrl-C ignored, and so would every process
# that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# grpcio ends the thread that polls for asyncio clients with the last of them, in a race that can
# end the process (github.com/grpc/grpc/issues/43364); with one that stays it never does.
aio.init_grpc_aio()


@pytest.fixture(scope="session", autouse=True)
def all_is_collected_in_the_end() -> Iterator[None]:
    """Libraries complain at the exit of what is still there."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_collected() -> None:
    """Frameworks that were imported have millions of objects, through which each unloading of a
    model in this process would look."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers: `serve(path, "--option", "value")`; they must stop with status 0."""
    with ExitStack() as stack:
        count = 0

        def start(*arguments: str | Path) -> RunningServer:
            nonlocal count
            count += 1
            server = RunningServer(tmp_path / f"server-{count}.log", *arguments)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard models on disk."""
    return write_standard_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with the standard models, for every test that does not change it."""
    running = RunningServer(tmp_path_factory.mktemp("server") / "server.log", repository)
    yield running
    running.stop()
