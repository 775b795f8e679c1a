"""One server for all of these tests: two language models and a model of tensors, in explicit
mode, behind the stock client."""

from collections.abc import Iterator

import openai
import pytest

from lifecycle.onnx_models import Repository, identity
from lifecycle.process import ServerProcess
from tiny_llama import write_tiny_llama

TINY, VERSIONED, TENSORS = "tiny", "versioned", "tensors"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("openai")
    folder = root / "models"
    write_tiny_llama(folder / TINY)
    write_tiny_llama(
        folder / VERSIONED / "3", generation_config={"temperature": 0.0, "max_new_tokens": 5}
    )
    (folder / VERSIONED / "config.yaml").write_text(
        "engine: {max_model_len: 64, enable_prefix_caching: false}\n"
    )
    Repository(folder).add(TENSORS, identity())
    process = ServerProcess(
        root / "server.log", folder, "--model-control-mode", "explicit", "--load-model", "*",
        "--max-num-seqs", "8", "--no-packed-cache",
    )  # fmt: skip
    try:
        yield process.wait_ready()
        assert "Traceback" not in process.log_text()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:  # type: ignore[override]
    base = f"http://{server.address}/v1"
    with openai.OpenAI(base_url=base, api_key="nobody looks", max_retries=0) as found:
        yield found
