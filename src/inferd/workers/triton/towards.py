"""What a TritonPythonModel wants of its server: answers of other models, models loaded and
unloaded.

Questions go out by the worker's socket (`workers/asking.py`) and wait in the other model's queue
like any request.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import msgspec

from inferd.errors import InferdError
from inferd.types.datatype import DATATYPES
from inferd.workers.asking import Asking
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import Answer, Ask, Manage
from inferd.workers.triton.error import TritonError, TritonModelException, from_inferd
from inferd.workers.triton.request import InferenceRequest, ResponseIterator
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.tensor import Tensor

_FILE: Final = "file:"


class Towards:
    """A worker's end of all that."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._depths: dict[int, int] = {}
        self._lock = threading.Lock()

    # -- how deep models ask one another ---------------------------------------------------------

    def entered(self, depth: int) -> None:
        """A request that other models asked for is in the model."""
        with self._lock:
            self._depths[depth] = self._depths.get(depth, 0) + 1

    def left(self, depth: int) -> None:
        """It is not any more."""
        with self._lock:
            self._depths[depth] -= 1
            if not self._depths[depth]:
                del self._depths[depth]

    def _depth(self) -> int:
        """Nobody says for which request a model asks: the deepest that it has may be meant."""
        with self._lock:
            return max(self._depths, default=0) + 1

    # -- requests --------------------------------------------------------------------------------

    def exec(self, request: InferenceRequest, decoupled: bool) -> Any:
        """Ask and wait; what goes wrong is a response with an error."""
        if decoupled:
            return ResponseIterator(_Answers(self._asking, self._question(request, True)))
        answers: SimpleQueue[Answer] = SimpleQueue()
        self._asking.start(self._question(request, False), answers.put)
        return _response(answers.get())

    async def async_exec(self, request: InferenceRequest, decoupled: bool) -> Any:
        """As `exec`; leaving the wait cancels the request."""
        if decoupled:
            return self.exec(request, True)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Answer] = loop.create_future()

        def take(answer: Answer) -> None:
            loop.call_soon_threadsafe(_settle, arrived, answer)

        ask = self._asking.start(self._question(request, False), take)
        try:
            return _response(await arrived)
        finally:
            self._asking.forget(ask)

    def _question(self, request: InferenceRequest, streams: bool) -> "partial[Ask]":
        name = request.model_name()
        version = request.model_version()
        said = msgspec.structs.replace(request.said, depth=self._depth())
        return partial(
            Ask, model=name, method="predict",
            inputs={t.name(): pack_inline(t.kind, t.array) for t in request.inputs()},
            session="", streams=streams, version=str(version) if version > 0 else "",
            particulars=said,
        )  # fmt: skip

    # -- models ----------------------------------------------------------------------------------

    def load_model(
        self, model_name: str, config: str = "", files: Mapping[str, bytes | str] | None = None
    ) -> None:
        """Have a model loaded; with `config`, its configuration as JSON, in place of its own, and
        with `files`, by "file:<version>/<name>", in place of its own."""
        contents = {}
        for name, content in (files or {}).items():
            if not name.startswith(_FILE):
                raise TritonModelException(
                    f"a file of load_model is named 'file:<version>/<name>', not '{name}'"
                )
            data = content.encode() if isinstance(content, str) else bytes(content)
            contents[name.removeprefix(_FILE)] = data
        self._managed("load", model_name, config=config, files=contents)

    def unload_model(self, model_name: str, unload_dependents: bool = False) -> None:
        """Have a model unloaded, and with `unload_dependents` those that were loaded for it only;
        one that nobody knows is."""
        self._managed("unload", model_name, dependents=bool(unload_dependents))

    def is_model_ready(self, model_name: str, model_version: str = "") -> bool:
        """Whether a model answers."""
        return self._managed("ready", model_name, version=model_version) == 1

    def _managed(self, action: Any, model: str, **more: Any) -> float:
        try:
            question = partial(Manage, action=action, model=model, **more)
            return self._asking.wait(question).value
        except InferdError as error:
            raise TritonModelException(f"Failed to {action} model: {error}") from None


class _Answers:
    """The answers to one question, as they come; a question that is let go of is given up. Behind a
    stream that did not say which answer is its last stands an empty one, as in Triton."""

    def __init__(self, asking: Asking, question: "partial[Ask]") -> None:
        self._asking = asking
        self._came: SimpleQueue[Answer] = SimpleQueue()
        self._final = self._over = False
        self._ask = 0
        self._ask = asking.start(question, self._came.put)

    def __iter__(self) -> Iterator[InferenceResponse]:
        return self

    def __next__(self) -> InferenceResponse:
        if self._over:
            raise StopIteration
        answer = self._came.get()
        self._over = answer.last
        if answer.last and answer.error is None and self._final:
            raise StopIteration
        self._final = answer.final
        return _response(answer)

    def close(self) -> None:
        """Nobody wants more of them, nor waits on."""
        self._final = True
        self._asking.forget(self._ask)
        self._came.put(Answer(self._ask, {}))

    def __del__(self) -> None:
        self._asking.forget(self._ask)


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _response(answer: Answer) -> InferenceResponse:
    if answer.error is not None:
        error: TritonError = from_inferd(answer.error)
        return InferenceResponse(error=error)
    tensors = [
        Tensor.of(name, DATATYPES[packed.datatype], unpack(packed, None, False))
        for name, packed in answer.outputs.items()
    ]
    return InferenceResponse(tensors, parameters=answer.parameters)
