"""A model's questions to other models of its server: they go out by the worker's socket and wait in
the other model's queue like any request. It refuses to know who asks and what is made of answers.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from queue import SimpleQueue

from inferd.errors import BackendError
from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.signature import Signature
from inferd.types.tensor import Array
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import Answer, Ask, Event, Forget, Packed

Arrays = Mapping[str, Array]
Take = Callable[[Answer], None]

_DTYPE_NAMES = {kind.dtype: kind.name for kind in DATATYPES.values() if kind.name != "BF16"}


class Asking:
    """An Ask (`sdk/ask.py`) over a worker's socket, from any thread and any event loop."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.tell = tell
        self._numbers = itertools.count(1)
        self._takers: dict[int, Take] = {}
        self._signatures: dict[tuple[str, str], Signature] = {}
        self._lock = threading.Lock()

    def answered(self, answer: Answer) -> None:
        """Hand an answer to whoever waits for it."""
        with self._lock:
            taker = (self._takers.pop if answer.last else self._takers.get)(answer.ask, None)
        if taker is not None:
            taker(answer)

    def signature(self, name: str, method: str = "predict") -> Signature:
        """What another model takes and gives; asked for once."""
        known = self._signatures.get((name, method))
        if known is None:
            answers: SimpleQueue[Answer] = SimpleQueue()
            self._send(name, method, {}, "", answers.put, signature_only=True)
            found = _good(answers.get()).signature
            assert found is not None
            known = self._signatures[name, method] = found
        return known

    def call(self, name: str, inputs: Arrays, method: str, session: str) -> dict[str, Array]:
        """Ask and wait."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        self._send(name, method, inputs, session, answers.put)
        return _outputs(answers.get())

    async def acall(self, name: str, inputs: Arrays, method: str, session: str) -> dict[str, Array]:
        """Ask and await; leaving the wait cancels the request."""
        async with contextlib.aclosing(
            self._astream(name, inputs, method, session, False)
        ) as answers:
            async for outputs in answers:
                return outputs
        raise BackendError(f"'{name}' gave no answer")

    def stream(self, name: str, inputs: Arrays, session: str) -> Iterator[dict[str, Array]]:
        """Ask, and take what comes as it comes; leaving early cancels the request."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        ask = self._send(name, "predict", inputs, session, answers.put, streams=True)
        try:
            while not (answer := _good(answers.get())).last:
                yield _outputs(answer)
        finally:
            self.forget(ask)

    def astream(self, name: str, inputs: Arrays, session: str) -> AsyncIterator[dict[str, Array]]:
        """As `stream`."""
        return self._astream(name, inputs, "predict", session, True)

    async def _astream(
        self, name: str, inputs: Arrays, method: str, session: str, streams: bool
    ) -> AsyncGenerator[dict[str, Array], None]:
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[Answer] = asyncio.Queue()

        def take(answer: Answer) -> None:
            loop.call_soon_threadsafe(answers.put_nowait, answer)

        ask = self._send(name, method, inputs, session, take, streams=streams)
        try:
            while not (answer := _good(await answers.get())).last:
                yield _outputs(answer)
            if not streams:
                yield _outputs(answer)
        finally:
            self.forget(ask)

    def _send(
        self, name: str, method: str, inputs: Arrays, session: str, take: Take, *,
        streams: bool = False, signature_only: bool = False,
    ) -> int:  # fmt: skip
        packed = {argument: _packed(array) for argument, array in inputs.items()}
        return self.start(
            partial(
                Ask, model=name, method=method, inputs=packed, session=session, streams=streams,
                signature_only=signature_only,
            ),
            take,
        )  # fmt: skip

    def start(self, question: Callable[[int], Event], take: Take) -> int:
        """Ask anything; `take` gets each answer, on the listening thread."""
        with self._lock:
            ask = next(self._numbers)
            self._takers[ask] = take
        try:
            self.tell(question(ask))
        except BaseException:  # a value that does not cross
            del self._takers[ask]
            raise
        return ask

    def wait(self, question: Callable[[int], Event]) -> Answer:
        """Ask anything and wait; raises the answer's error."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        self.start(question, answers.put)
        return _good(answers.get())

    def forget(self, ask: int) -> None:
        """Nobody wants to know any more."""
        with self._lock:
            waited = self._takers.pop(ask, None) is not None
        if waited:
            self.tell(Forget(ask))


def _packed(array: Array) -> Packed:
    kind = BYTES if array.dtype.hasobject else DATATYPES[_DTYPE_NAMES[array.dtype]]
    return pack_inline(kind, array)


def _good(answer: Answer) -> Answer:
    if answer.error is not None:
        raise answer.error
    return answer


def _outputs(answer: Answer) -> dict[str, Array]:
    return {name: unpack(packed, None, False) for name, packed in _good(answer).outputs.items()}
