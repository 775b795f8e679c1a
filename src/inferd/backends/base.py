"""What a framework adapter is: three nouns as in Triton, a Backend that opens models, a Model that
says what it is and makes instances, a ModelInstance that runs.

Contract: `Backend.open` and `Model.create_instance` may block for long and run off the event loop.
`ModelInstance.run` is called by one thread at a time, perhaps the event loop's, and must release
the GIL while it computes. `close` may be called from any thread, once, with no run in flight.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from inferd.config.model import ModelConfig
from inferd.types.tensor import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model is, after the backend has looked into it and the configuration has spoken.

    Shapes of `inputs` and `outputs` include the batch dimension, -1, when `max_batch_size` is 1 or
    more. `notes` are decisions worth a log line, each with its reason. `steady` promises that run
    time depends on shapes only, never on values.
    """

    platform: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = field(default=())
    steady: bool = False


class ModelInstance(Protocol):
    """One copy of a model on one device."""

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch: arrays in the order of the description's inputs, outputs likewise.

        Raises BackendError with the framework's own words.
        """

    def close(self) -> None:
        """Give the memory back."""


class Model(Protocol):
    """One version of a model, opened."""

    description: ModelDescription

    def create_instance(self) -> ModelInstance:
        """Make one copy, ready to run; raises BackendError."""

    def create_lanes(self) -> "list[ModelInstance]":
        """Make instances that run side by side on the cores that `create_instance` gives to one.

        Where many requests wait, a core for each batch loses less than all cores on one batch.
        Empty where the framework cannot, or where its memory would not be worth it.
        """

    def close(self) -> None:
        """Give the memory back, after every instance is closed."""


class Backend(Protocol):
    """A framework."""

    name: str
    platform: str
    default_filename: str

    def open(self, path: Path, config: ModelConfig, threads: int) -> Model:
        """Open a model file; `threads` is how many cores each instance may use.

        Raises BackendError when the file is not a model, ConfigError when the configuration
        contradicts it.
        """
