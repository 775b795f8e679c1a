"""A model in this process in place of a served one, for models without a server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from inferd.errors import InferdError
from inferd.sdk.ask import Arrays
from inferd.sdk.call import Call, Outcome
from inferd.sdk.model import Model
from inferd.types.signature import Signature
from inferd.types.tensor import Array

if TYPE_CHECKING:
    from inferd.sdk.runtime import ModelRuntime


class LocalAsk:
    """One model class, loaded at the first call. It has no queue: calls run one at a time, and
    those of an async model on the caller's event loop, or on one for each call."""

    def __init__(self, model_class: type[Model]) -> None:
        self._class = model_class
        self._runtime: ModelRuntime | None = None
        self._loading = threading.Lock()
        self._running = threading.Lock()

    def signature(self, name: str, method: str = "predict") -> Signature:
        """That of the class."""
        card = self._loaded().card
        return card.explain if method == "explain" and card.explain else card.signature

    def call(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run here."""
        runtime, call = self._loaded(), self._call(inputs, method, session)
        if runtime.card.is_async:
            return self._outputs(asyncio.run(runtime.arun(call)), method)
        with self._running:
            outcomes = runtime.run(call)
        return self._outputs(outcomes, method)

    async def acall(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run on this loop, or on a thread where the model is not async."""
        runtime, call = await asyncio.to_thread(self._loaded), self._call(inputs, method, session)
        if runtime.card.is_async:
            return self._outputs(await runtime.arun(call), method)
        return await asyncio.to_thread(self.call, name, inputs, method, session)

    def stream(self, name: str, inputs: Arrays, session: str) -> Iterator[Arrays]:
        """Run here, part by part."""
        runtime = self._loaded()
        for part in runtime.stream(self._call(inputs, "predict", session)):
            yield self._outputs([part], "predict")

    async def astream(self, name: str, inputs: Arrays, session: str) -> AsyncIterator[Arrays]:
        """Run on this loop, part by part."""
        runtime = await asyncio.to_thread(self._loaded)
        async for part in runtime.astream(self._call(inputs, "predict", session)):
            yield self._outputs([part], "predict")

    def close(self) -> None:
        """Unload the model."""
        if self._runtime is not None:
            self._runtime.unload()

    def _loaded(self) -> "ModelRuntime":
        from inferd.sdk.runtime import ModelRuntime  # it knows handles, and so this module

        with self._loading:
            if self._runtime is None:
                runtime = ModelRuntime(self._class)
                runtime.load()
                self._runtime = runtime
            return self._runtime

    def _call(self, inputs: Arrays, method: str, session: str) -> Call:
        arrays: list[Array | None] = [
            inputs.get(argument.name) for argument in self.signature("", method).inputs
        ]
        rows = 1
        if self._loaded().card.batched:
            rows = max((len(array) for array in arrays if array is not None), default=1)
        return Call(method, arrays, [rows], [session])

    def _outputs(self, outcomes: list[Outcome], method: str) -> Arrays:
        (outcome,) = outcomes
        if isinstance(outcome, InferdError):
            raise outcome
        names = [argument.name for argument in self.signature("", method).outputs]
        return dict(zip(names, outcome, strict=True))
