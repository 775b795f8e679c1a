"""A model's questions to other models of its server: they go out by the worker's socket and wait in
the other model's queue like any request. It refuses to know who asks and what is made of answers.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from queue import SimpleQueue

from inferd.errors import BackendError
from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.signature import Signature
from inferd.types.tensor import Array
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import Answer, Ask, Event, Forget, Packed

Arrays = dict[str, Array]
Take = Callable[[Answer], None]

_DTYPE_NAMES = {kind.dtype: kind.name for kind in DATATYPES.values() if kind.name != "BF16"}


class Asking:
    """Asks, from any thread and any event loop; `inputs` and answers are tensors by name, answers
    with their shapes as that model gives them. Raises what the other model's request ended in."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._numbers = itertools.count(1)
        self._takers: dict[int, Take] = {}
        self._signatures: dict[str, Signature] = {}
        self._lock = threading.Lock()

    def answered(self, answer: Answer) -> None:
        """Hand an answer to whoever waits for it."""
        with self._lock:
            last = answer.last or answer.error is not None
            taker = (self._takers.pop if last else self._takers.get)(answer.ask, None)
        if taker is not None:
            taker(answer)

    def signature(self, model: str) -> Signature:
        """What another model takes and gives; asked for once."""
        known = self._signatures.get(model)
        if known is None:
            found = self._wait(model, "", {}, "").signature
            assert found is not None
            known = self._signatures[model] = found
        return known

    def call(
        self, model: str, inputs: Arrays, method: str = "predict", session: str = ""
    ) -> Arrays:
        """Ask and wait."""
        return _outputs(self._wait(model, method, inputs, session))

    async def acall(
        self, model: str, inputs: Arrays, method: str = "predict", session: str = ""
    ) -> Arrays:
        """Ask and await; leaving the wait cancels the request."""
        async for outputs in self._astream(model, inputs, method, session, False):
            return outputs
        raise BackendError(f"'{model}' gave no answer")

    def stream(
        self, model: str, inputs: Arrays, method: str = "predict", session: str = ""
    ) -> Iterator[Arrays]:
        """Ask, and take what comes as it comes; leaving early cancels the request."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        ask = self._send(model, method, inputs, session, True, answers.put)
        try:
            while True:
                answer = answers.get()
                if answer.last and answer.error is None:
                    return
                yield _outputs(answer)
        finally:
            self._forget(ask)

    def astream(
        self, model: str, inputs: Arrays, method: str = "predict", session: str = ""
    ) -> AsyncIterator[Arrays]:
        """As `stream`."""
        return self._astream(model, inputs, method, session, True)

    async def _astream(
        self, model: str, inputs: Arrays, method: str, session: str, streams: bool
    ) -> AsyncIterator[Arrays]:
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[Answer] = asyncio.Queue()

        def take(answer: Answer) -> None:
            loop.call_soon_threadsafe(answers.put_nowait, answer)

        ask = self._send(model, method, inputs, session, streams, take)
        try:
            while True:
                answer = await answers.get()
                if streams and answer.last and answer.error is None:
                    return
                yield _outputs(answer)
                if not streams:
                    return
        finally:
            self._forget(ask)

    def _wait(self, model: str, method: str, inputs: Arrays, session: str) -> Answer:
        answers: SimpleQueue[Answer] = SimpleQueue()
        self._send(model, method, inputs, session, False, answers.put)
        answer = answers.get()
        if answer.error is not None:
            raise answer.error
        return answer

    def _send(
        self, model: str, method: str, inputs: Arrays, session: str, streams: bool, take: Take
    ) -> int:
        packed = {name: _packed(array) for name, array in inputs.items()}
        with self._lock:
            ask = next(self._numbers)
            self._takers[ask] = take
        self._tell(Ask(ask, model, method, packed, session, streams))
        return ask

    def _forget(self, ask: int) -> None:
        with self._lock:
            waited = self._takers.pop(ask, None) is not None
        if waited:
            self._tell(Forget(ask))


def _packed(array: Array) -> Packed:
    kind = BYTES if array.dtype.hasobject else DATATYPES[_DTYPE_NAMES[array.dtype]]
    return pack_inline(kind, array)


def _outputs(answer: Answer) -> Arrays:
    if answer.error is not None:
        raise answer.error
    return {name: unpack(packed, None, False) for name, packed in answer.outputs.items()}
