"""One server for all of these tests, in this process."""

import threading
from collections.abc import Iterator

import pytest

import inferd
from inferd.backends.base import ModelDescription, OpenOptions
from inferd.backends.registry import BACKENDS
from inferd.config.model import ModelConfig
from inferd.types.datatype import FP32
from inferd.types.tensor import Array, TensorSpec
from lifecycle.onnx_models import Repository, add_sub, identity, lookup, work

COUNTER = """
from collections.abc import Iterator
import inferd

class Counter(inferd.Model):
    def predict(self, count: int) -> Iterator[int]:
        for number in range(count):
            yield number
"""


class Same:
    """A backend whose outputs are its inputs, the same arrays: what is copied on the way shows."""

    name = platform = "same"

    def open(self, path: object, config: ModelConfig, options: OpenOptions) -> "Same":
        return self

    @property
    def description(self) -> ModelDescription:
        shape = (-1, -1) if self.size else (-1,)
        spec = (TensorSpec("INPUT0", FP32, shape),), (TensorSpec("OUTPUT0", FP32, shape),)
        return ModelDescription("same", "same", self.size, *spec, steady=self.steady)

    size = 8
    steady = True

    def create_instance(self) -> "Same":
        return self

    def create_lanes(self) -> "list[Same]":
        return []

    def run(self, inputs: list[Array]) -> list[Array]:
        return inputs

    def close(self) -> None:
        pass


class Held(Same):
    """One whose runs last until the test lets go: not on the loop's own thread."""

    steady = False

    def run(self, inputs: list[Array]) -> list[Array]:
        held.set()
        let_go.wait()
        return inputs


held, let_go = threading.Event(), threading.Event()


def batches(size: int) -> dict[str, int]:
    return {"max_batch_size": size}


@pytest.fixture(scope="session", autouse=True)
def backends() -> Iterator[None]:
    """Both of these by their names."""
    for backend in (Same, Held):
        BACKENDS[backend.__name__.lower()] = f"{__name__}:{backend.__name__}"
    yield
    for backend in (Same, Held):
        del BACKENDS[backend.__name__.lower()]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[inferd.Server]:
    root = tmp_path_factory.mktemp("embedded")
    repository = Repository(root / "repository")
    for datatype in ("FP32", "BYTES", "BF16"):
        repository.add(f"id_{datatype}", identity(datatype, ("n", "m")), config=batches(8))
    repository.add("add_sub", add_sub(), config=batches(64))
    for name in ("busy", "left"):
        repository.add(name, work(), config=batches(64))
    repository.add("lookup", lookup(), config=batches(8))
    repository.add("later", identity(), config=batches(8))
    named = {"backend": "same", "default_model_filename": "model.onnx"}
    repository.add("same", identity(), config=batches(8) | named)
    (root / "counter.py").write_text(COUNTER)
    with inferd.Server(
        root / "counter.py", model_repository=repository.root, model_control_mode="explicit",
        load_model=["add_sub", "busy", "left", "lookup", "same", "Counter", "id_FP32", "id_BYTES",
                    "id_BF16"],
    ) as made:  # fmt: skip
        yield made
