from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import RunningServer

TINY_LLAMA = Path(__file__).parents[2] / "examples" / "tiny_llama" / "model"


@pytest.fixture(scope="session")
def tiny_llama() -> Path:
    """The folder of a real, small language model."""
    return TINY_LLAMA


@pytest.fixture(scope="session")
def llm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with that model."""
    running = RunningServer(tmp_path_factory.mktemp("llm") / "server.log", TINY_LLAMA)
    yield running
    running.stop()
