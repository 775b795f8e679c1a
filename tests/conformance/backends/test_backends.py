"""Every backend does what the contract asks for, and the checks notice one that does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.backends.cases import CASES
from inferd.backends.base import ModelDescription, OpenOptions
from inferd.backends.conformance import CHECKS, Case, NotConforming, check_backend
from inferd.config.model import ModelConfig
from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return CASES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_a_backend_conforms(check: str, case: Case) -> None:
    CHECKS[check](case)


# -- a backend from outside, good and bad ---------------------------------------------------------


class Doubling:
    """A backend that doubles, and does one thing wrong if told to."""

    name = platform = "doubling"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> Any:
        from inferd.backends.completion import complete

        text = path.read_text() if self.fault == "raises" else _text(path)
        if text != "double\n" and self.fault != "takes anything":
            raise BackendError("this is no model")
        return DoublingModel(self.fault, config, complete)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise BackendError(str(error)) from error


class DoublingModel:
    def __init__(self, fault: str, config: ModelConfig, complete: Any) -> None:
        self.fault = fault
        kind: DataType = DATATYPES["FP64" if fault == "another type" else "FP32"]
        specs = TensorSpec("x", DATATYPES["FP32"], (-1, 2)), TensorSpec("y", kind, (-1, 2))
        described = ModelConfig() if fault == "deaf" else config
        self.description: ModelDescription = complete(
            described, "doubling", "other" if fault == "name" else "doubling", specs[:1], specs[1:],
            8 if config.max_batch_size is None else config.max_batch_size,
        )  # fmt: skip
        self.kept = np.zeros((8, 2), np.float32)

    def create_instance(self) -> Any:
        return self

    def create_lanes(self) -> list[Any]:
        return []

    def run(self, inputs: list[Array]) -> list[Array]:
        (x,) = inputs
        if self.fault == "writes":
            x *= 2
            return [x.copy()]
        if self.fault == "keeps":
            if len(x) != 4:
                return [x * 2]
            np.multiply(x, 2, out=self.kept[:4])
            return [self.kept[:4]]
        if self.fault == "mixes":
            return [x * 2 if len(x) > 1 else x * 2 + 1]
        if self.fault == "lends":
            return [x] if not x.any() else [x[:]]
        return [x * 2]

    def close(self) -> None:
        pass


def doubling(folder: Path, fault: str) -> Case:
    path = folder / "model.double"
    path.write_text("double\n")
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    if fault == "lends":
        rows = np.zeros_like(rows)
    return Case(Doubling(fault), path, (rows,), (rows * 2,))


def test_an_outside_backend_can_check_itself(tmp_path: Path) -> None:
    check_backend(doubling(tmp_path, ""))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("name", "description.backend is 'other'"),
        ("another type", "described as FP64, and is float32"),
        ("mixes", "alone than together"),
        ("keeps", "has changed after it was given"),
        ("lends", "lies in the memory of an input"),
        ("takes anything", "an empty file was opened as a model"),
        ("raises", "expected BackendError or ConfigError, got FileNotFoundError"),
        ("deaf", "a wrong input was not noticed"),
    ],
)
def test_a_backend_that_does_not_conform_is_told(fault: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(NotConforming, match=told):
        check_backend(doubling(tmp_path, fault))


def test_a_backend_that_writes_to_its_inputs_fails(tmp_path: Path) -> None:
    case = doubling(tmp_path, "writes")
    with pytest.raises(NotConforming, match="an input was written to"):
        CHECKS["results_are_their_own"](case)
