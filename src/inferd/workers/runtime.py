"""What a worker runs, the same for a class in Python and for a backend: a Runtime is opened once
and then given jobs. It refuses to know sockets and memory.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from inferd.backends.base import ModelDescription, OpenOptions
from inferd.backends.registry import open_model
from inferd.errors import InferdError, Unsupported
from inferd.types.tensor import Array, TensorSpec, left_out
from inferd.workers.messages import Loaded, Start, TensorLine, WorkerTerms

TRITON_CLASS = "TritonPythonModel"
"""The class of a file for Triton's Python backend."""


def is_triton_model(path: str) -> bool:
    """Whether a model, `file.py:Class`, is one for Triton's Python backend."""
    return path.endswith(f":{TRITON_CLASS}")


Outcome = list[Array] | InferdError
Result = Sequence[Array] | Sequence[Outcome]
"""The merged outputs of a job, or an outcome for each of its requests."""


class Job(msgspec.Struct, frozen=True):
    """A batch: `inputs` in the model's order, merged over requests of so many `rows` each, None
    where an optional one was left out."""

    method: str
    inputs: list[Array | None]
    rows: list[int]
    sessions: list[str]


class Runtime(Protocol):
    """A model that is open. `run` and `stream` are called on the worker's main thread, `arun` and
    `astream` on its event loop; which of the four is for `is_async` and `streams` to say."""

    is_async: bool
    streams: bool
    loop: asyncio.AbstractEventLoop | None
    """That on which an asynchronous one was opened."""

    def loaded(self) -> Loaded:
        """What the model is."""

    def run(self, job: Job) -> Result:
        """Raises InferdError for all requests."""

    async def arun(self, job: Job) -> Result:
        """As `run`."""

    def stream(self, job: Job) -> Generator[list[Array], None, None]:
        """What comes of one request, as it comes."""

    def astream(self, job: Job) -> AsyncGenerator[list[Array], None]:
        """As `stream`."""

    def asgi(self) -> Any:
        """The ASGI application of the model's own HTTP routes; None where it has none."""

    def close(self) -> None:
        """Unload."""


class BackendRuntime:
    """A model of any backend of the registry; it has one instance."""

    is_async = False
    streams = False
    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, start: Start) -> None:
        options = OpenOptions(start.threads, start.trust)
        self._model = open_model(start.backend, Path(start.path), start.config, options)
        self._instance = self._model.create_instance()

    def loaded(self) -> Loaded:
        """What the model is."""
        description: ModelDescription = self._model.description
        return Loaded(
            description.platform, description.backend, description.max_batch_size,
            tuple(_line(spec) for spec in description.inputs),
            tuple(_line(spec) for spec in description.outputs),
            description.notes, description.steady, WorkerTerms(), description.signature,
            layout=description.layout,
        )  # fmt: skip

    def run(self, job: Job) -> list[Array]:
        """See Runtime."""
        specs = self._model.description.inputs
        return self._instance.run(
            [
                left_out(specs[place]) if array is None else array
                for place, array in enumerate(job.inputs)
            ]
        )

    async def arun(self, job: Job) -> list[Array]:
        """Not for a backend."""
        raise Unsupported("a backend does not run asynchronously")

    def stream(self, job: Job) -> Generator[list[Array], None, None]:
        """Not for a backend."""
        raise Unsupported("a backend does not stream")

    def astream(self, job: Job) -> AsyncGenerator[list[Array], None]:
        """Not for a backend."""
        raise Unsupported("a backend does not stream")

    def asgi(self) -> Any:
        """A backend has no routes of its own."""
        return None

    def close(self) -> None:
        """Close instance and model."""
        self._instance.close()
        self._model.close()


def _line(spec: TensorSpec) -> TensorLine:
    return TensorLine(spec.name, spec.datatype.name, spec.shape, spec.optional, spec.labels)
