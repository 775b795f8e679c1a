"""A model in this process in place of a served one, for models without a server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing

from inferd.errors import InferdError, Unsupported
from inferd.sdk.ask import Arrays
from inferd.sdk.call import Call, Outcome
from inferd.sdk.model import Model
from inferd.types.signature import Signature
from inferd.types.tensor import Array


class LocalAsk:
    """One model class, loaded at the first call. It has no queue: calls run one at a time, and
    those of an async model on the caller's event loop, or on one for each call."""

    def __init__(self, model_class: type[Model]) -> None:
        from inferd.sdk.runtime import ModelRuntime  # it knows handles, and so this module

        self._runtime: ModelRuntime = ModelRuntime(model_class)
        self._is_loaded = False
        self._loading = threading.Lock()
        self._loading_task: asyncio.Task[None] | None = None
        self._running = threading.Lock()

    def signature(self, name: str, method: str = "predict") -> Signature:
        """That of the class; raises Unsupported."""
        card = self._runtime.card
        signature = card.explain if method == "explain" else card.signature
        if signature is None:
            raise Unsupported(f"model '{name}' has no method '{method}'")
        return signature

    def call(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run here."""
        if self._runtime.card.is_async:
            return asyncio.run(self.acall(name, inputs, method, session))
        self._load()
        with self._running:
            outcomes = self._runtime.run(self._call(inputs, method, session))
        return self._outputs(outcomes, method)

    async def acall(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run on this loop, or on a thread where the model is not async."""
        if not self._runtime.card.is_async:
            return await asyncio.to_thread(self.call, name, inputs, method, session)
        await self._aload()
        return self._outputs(await self._runtime.arun(self._call(inputs, method, session)), method)

    def stream(self, name: str, inputs: Arrays, session: str) -> Iterator[Arrays]:
        """Run here, part by part; raises Unsupported for an async model."""
        if self._runtime.card.is_async:
            raise Unsupported(f"model '{name}' is async; use astream")
        self._load()
        with closing(self._runtime.stream(self._call(inputs, "predict", session))) as parts:
            for part in parts:
                yield self._outputs([part], "predict")

    async def astream(self, name: str, inputs: Arrays, session: str) -> AsyncIterator[Arrays]:
        """Run on this loop, part by part."""
        await self._aload()
        call = self._call(inputs, "predict", session)
        async with aclosing(self._runtime.astream(call)) as parts:
            async for part in parts:
                yield self._outputs([part], "predict")

    def close(self) -> None:
        """Unload the model."""
        if self._runtime.card.is_async:
            asyncio.run(self.aclose())
        elif self._is_loaded:
            self._is_loaded = False
            self._runtime.unload()

    async def aclose(self) -> None:
        """Unload the model, on an event loop."""
        if self._is_loaded:
            self._is_loaded = False
            self._loading_task = None
            await self._runtime.aunload()

    def _load(self) -> None:
        with self._loading:
            if not self._is_loaded:
                self._runtime.load()
                self._is_loaded = True

    async def _aload(self) -> None:
        if not self._runtime.card.is_async:
            await asyncio.to_thread(self._load)
        elif not self._is_loaded:
            if self._loading_task is None or self._loading_task.done():
                self._loading_task = asyncio.create_task(self._load_on_loop())
            await asyncio.shield(self._loading_task)

    async def _load_on_loop(self) -> None:
        await self._runtime.aload()
        self._is_loaded = True

    def _call(self, inputs: Arrays, method: str, session: str) -> Call:
        arguments = self.signature("", method).inputs
        arrays: list[Array | None] = [inputs.get(argument.name) for argument in arguments]
        rows = 1
        if self._runtime.card.batched:
            rows = max((len(array) for array in arrays if array is not None), default=1)
        return Call(method, arrays, [rows], [session])

    def _outputs(self, outcomes: list[Outcome], method: str) -> Arrays:
        (outcome,) = outcomes
        if isinstance(outcome, InferdError):
            raise outcome
        names = [argument.name for argument in self.signature("", method).outputs]
        return dict(zip(names, outcome, strict=True))
