from pathlib import Path

import pytest

from tiny_llama import write_tiny_llama


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model's folder; its weights are not looked at here."""
    return write_tiny_llama(tmp_path_factory.mktemp("llm") / "toy")
