"""A model class of an author's file, as a Runtime."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

from inferd.backends.shaping import refuse_layout
from inferd.sdk.call import Call, Outcome
from inferd.sdk.card import ModelCard, TensorCard
from inferd.sdk.finder import find_model_class
from inferd.sdk.runtime import ModelRuntime
from inferd.types.tensor import Array
from inferd.workers.asking import Asking
from inferd.workers.messages import Loaded, Start, TensorLine, WorkerTerms
from inferd.workers.runtime import Job

PLATFORM = "python"


class PythonRuntime:
    """One instance of a model class. Of one that is async, everything runs on `loop`."""

    def __init__(self, start: Start, asking: Asking) -> None:
        refuse_layout(start.config, "its class says what its tensors are")
        file, _, name = start.path.rpartition(":") if ":" in start.path else (start.path, "", "")
        model_class = find_model_class(Path(file), name)
        self._runtime = ModelRuntime(
            model_class, name=start.model, device=start.device or None, ask=asking
        )
        self.is_async = self._runtime.card.is_async
        self.streams = self._runtime.card.streams
        self.loop = asyncio.new_event_loop() if self.is_async else None
        if self.loop is not None:
            self.loop.run_until_complete(self._runtime.aload())
        else:
            self._runtime.load()

    def loaded(self) -> Loaded:
        """What the model is."""
        return card_loaded(self._runtime.card)

    def run(self, job: Job) -> list[Outcome]:
        """See Runtime."""
        return self._runtime.run(_call(job))

    async def arun(self, job: Job) -> list[Outcome]:
        """See Runtime."""
        return await self._runtime.arun(_call(job))

    def stream(self, job: Job) -> Generator[list[Array], None, None]:
        """See Runtime."""
        return self._runtime.stream(_call(job))

    def astream(self, job: Job) -> AsyncGenerator[list[Array], None]:
        """See Runtime."""
        return self._runtime.astream(_call(job))

    def asgi(self) -> Any:
        """See Runtime."""
        return self._runtime.asgi()

    def close(self) -> None:
        """Unload."""
        if self.loop is not None:
            self.loop.run_until_complete(self._runtime.aunload())
        else:
            self._runtime.unload()


def card_loaded(card: ModelCard) -> Loaded:
    """What a server is told of a class."""
    options = card.options
    return Loaded(
        PLATFORM, PLATFORM, options.max_batch_size,
        tuple(_line(tensor) for tensor in card.inputs),
        tuple(_line(tensor) for tensor in card.outputs),
        (), False,
        WorkerTerms(
            instances=options.instances,
            concurrency=options.max_concurrency if card.is_async else 1,
            timeout_s=options.timeout_s, memory_limit_mb=options.memory_limit_mb,
            max_queue_delay_microseconds=options.max_queue_delay_microseconds,
            depends=tuple(dependency.name for dependency in card.depends),
        ),
        card.signature, card.explain,
        mount=(card.options.mount or f"/models/{card.name}/app") if card.has_asgi else "",
    )  # fmt: skip


def _line(tensor: TensorCard) -> TensorLine:
    return TensorLine(tensor.name, tensor.datatype, tensor.shape, tensor.optional)


def _call(job: Job) -> Call:
    return Call(job.method, job.inputs, job.rows, job.sessions)
