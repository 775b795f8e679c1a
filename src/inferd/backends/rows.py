"""Models of one table: rows of features in, a number or several out for each row.

What the backends of gradient-boosted trees share. It refuses to know any of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from inferd.backends.base import ModelDescription, ModelInstance
from inferd.backends.completion import DEFAULT_MAX_BATCH_SIZE, complete
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError
from inferd.repository.formats import FIL
from inferd.types.datatype import DataType
from inferd.types.tensor import Array, TensorSpec

INPUT, OUTPUT = "input", "predict"
"""Names of the tensors; the output's is MLServer's."""

FIL_INPUT, FIL_OUTPUT = "input__0", "output__0"
"""The same in Triton's backend of trees."""

Predict = Callable[[Array], Array]
"""Rows [N, features] to predictions [N] or [N, outputs]; may be called from several threads."""


class RowInstance:
    """A ModelInstance; all of a model share what predicts."""

    def __init__(
        self, name: str, predict: Predict, dtype: np.dtype[np.generic], column: bool = False
    ) -> None:
        self._name = name
        self._predict: Predict | None = predict
        self._dtype = dtype
        self._column = column

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance."""
        assert self._predict is not None
        try:
            found = self._predict(inputs[0])
        except Exception as error:
            raise BackendError(f"{self._name}: {error}") from error
        found = np.ascontiguousarray(found, self._dtype)
        return [found[:, None] if self._column else found]

    def close(self) -> None:
        """Let go of the model."""
        self._predict = None


class RowModel:
    """A Model that is asked for a row of zeros once, to see what it gives."""

    def __init__(
        self, name: str, predict: Predict, features: int, datatype: DataType, config: ModelConfig,
        threads: int, labels: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        refuse_gpu(name, config)
        self._name = name
        self._predict: Predict | None = predict
        self._dtype = datatype.dtype
        self._column = False
        (row,) = self.create_instance().run([np.zeros((1, features), datatype.dtype)])
        fil = config.backend == FIL
        names = (FIL_INPUT, FIL_OUTPUT) if fil else (INPUT, OUTPUT)
        if fil and row.ndim == 1:  # it gives each row a list of its one number
            self._column, row = True, row[:, None]
        max_batch_size = config.max_batch_size
        self.description: ModelDescription = complete(
            config, name, name,
            [TensorSpec(names[0], datatype, (-1, features))],
            [TensorSpec(names[1], datatype, (-1, *row.shape[1:]), labels=labels)],
            DEFAULT_MAX_BATCH_SIZE if max_batch_size is None else max_batch_size,
            ["one thread for a batch" if threads == 1 else f"{threads} threads for a batch"],
            steady=True,
        )  # fmt: skip

    def create_instance(self) -> RowInstance:
        """One more that asks the same trees."""
        assert self._predict is not None
        return RowInstance(self._name, self._predict, self._dtype, self._column)

    def create_lanes(self) -> list[ModelInstance]:
        """None: trees are quick."""
        return []

    def close(self) -> None:
        """Let go of the model."""
        self._predict = None


def refuse_gpu(name: str, config: ModelConfig) -> None:
    """Raises ConfigError for a configuration that wants a GPU."""
    for group in config.instance_group:
        if group.on_gpu:
            raise ConfigError(f"{name} runs on the CPU here", field="instance_group.kind")


def unreadable(name: str, path: Path, error: Exception) -> BackendError:
    """A file that a framework would not take."""
    first = str(error).strip().splitlines()
    return BackendError(f"{name} cannot load {path.name}: {first[0] if first else error!r}")
