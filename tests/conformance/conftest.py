"""One server for all of these tests: every model they need is loaded, in explicit mode."""

from collections.abc import Iterator

import pytest
import tritonclient.http as triton

from conformance.models import DECOUPLED, write_repository
from lifecycle.process import ServerProcess

MAX_INPUT_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("conformance")
    write_repository(root / "repository")
    (root / "decoupled.py").write_text(DECOUPLED)
    process = ServerProcess(
        root / "server.log", root / "repository", root / "decoupled.py",
        "--model-control-mode", "explicit", "--load-model", "*",
        "--http-max-input-size", str(MAX_INPUT_BYTES), "--shared-memory", "system",
    )  # fmt: skip
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.address, concurrency=4) as found:
        yield found
