"""AsyncLLM: an engine in a thread of its own, behind an asynchronous face.

The engine's thread runs steps and sleeps when there is nothing to do; it is spoken to through one
queue and answers once a step. Text is made here, on the event loop's side. An engine that raises is
dead: every waiting request is told, and the engine is started again.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from inferd.engine.core import EngineCore, SequenceUpdate
from inferd.engine.text.output import OutputProcessor
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import EngineDead, InferdError, ModelUnavailable
from inferd.types.generation import GenerationDelta, GenerationRequest

_log = logging.getLogger("inferd.engine")

RESTART_DELAY_S = 1.0


class _Command(Protocol):
    def __call__(self, core: EngineCore) -> None: ...


@dataclass(eq=False)
class _Stream:
    """A request on the loop's side: what has come and was not fetched yet."""

    request: GenerationRequest
    processors: list[OutputProcessor]
    deltas: list[GenerationDelta] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0
    error: InferdError | None = None


class AsyncLLM:
    """The asynchronous face. All methods but the engine's own are called on the loop's thread.

    `load` makes an EngineCore; it blocks and runs on the engine's thread, at first and again after
    a death.
    """

    def __init__(
        self, load: Callable[[], EngineCore], tokenizer: Tokenizer, loop: asyncio.AbstractEventLoop,
        name: str = "llm",
    ) -> None:  # fmt: skip
        self.core: EngineCore | None = None
        """To be looked at for metrics only; None before the first load and while dead."""
        self.deaths = 0
        self._load = load
        self._tokenizer = tokenizer
        self._loop = loop
        self._streams: dict[str, _Stream] = {}
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name=f"inferd-{name}", daemon=True)
        self._thread.start()

    async def wait_ready(self) -> None:
        """Wait for the first load; raises what it raised."""
        await asyncio.shield(self._ready)

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self.core is not None and not self._closing

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return len(self._streams)

    async def generate(
        self, request: GenerationRequest
    ) -> AsyncGenerator[list[GenerationDelta], None]:
        """What comes, as it comes; ends when all sequences have ended.

        Closing the iterator early (`contextlib.aclosing`) aborts the request. Raises InvalidRequest
        or Overloaded before the first delta, EngineDead at any time.
        """
        stream = self._open(request)
        try:
            while stream.open or stream.deltas:
                if not stream.deltas:
                    if stream.error is not None:
                        raise stream.error
                    stream.news.clear()
                    await stream.news.wait()
                    continue
                deltas, stream.deltas = stream.deltas, []
                yield deltas
            if stream.error is not None:
                raise stream.error
        finally:
            if self._streams.pop(request.id, None) is not None and not self._streams:
                self._idle.set()
            if stream.open:
                self._commands.put(lambda core: core.abort(request.id))

    async def drain(self) -> None:
        """Wait until no request is left. The caller has stopped adding."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the engine; requests that are left are told."""
        self._closing = True
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)
        self._fail_all(ModelUnavailable("the model is being unloaded"))

    # -- the loop's side -----------------------------------------------------------------------

    def _open(self, request: GenerationRequest) -> _Stream:
        if not self.alive:
            raise EngineDead("the engine of this model has ended and is being started again")
        count = request.params.n
        stream = _Stream(
            request,
            [
                OutputProcessor(self._tokenizer, request.params, request.prompt_token_ids)
                for _ in range(count)
            ],
            open=count,
        )
        self._streams[request.id] = stream
        self._idle.clear()

        def add(core: EngineCore) -> None:
            if not stream.open:
                return  # its engine died before it could be taken in, and it was told
            try:
                core.add(request)
            except InferdError as error:
                self._loop.call_soon_threadsafe(self._refuse, request.id, error)

        self._commands.put(add)
        return stream

    def _refuse(self, request_id: str, error: InferdError) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.error, stream.open = error, 0
            stream.news.set()

    def _deliver(self, updates: list[SequenceUpdate]) -> None:
        """A step's updates, on the loop's thread."""
        for update in updates:
            stream = self._streams.get(update.request_id)
            if stream is None or not stream.open:
                continue
            if update.error is not None:
                self._refuse(update.request_id, update.error)
                self._commands.put(lambda core, id=update.request_id: core.abort(id))
                continue
            self._push(stream, update)

    def _push(self, stream: _Stream, update: SequenceUpdate) -> None:
        processor = stream.processors[update.index]
        if processor.stopped is not None:
            return  # tokens that were on their way when the stop string was found
        text, stop = processor.push(update.token_ids, update.finish_reason)
        delta = GenerationDelta(
            index=update.index, token_ids=update.token_ids, text=text, logprobs=update.logprobs,
            prompt_logprobs=update.prompt_logprobs, finish_reason=update.finish_reason,
            stop_reason=update.stop_reason, num_cached_tokens=update.num_cached_tokens,
            queue_s=update.queue_s,
        )  # fmt: skip
        if stop is not None:
            delta.finish_reason, delta.stop_reason = "stop", stop
            if update.finish_reason is None:
                self._commands.put(lambda core, id=update.sequence_id: core.finish(id))
        if delta.finish_reason is not None:
            stream.open -= 1
        stream.deltas.append(delta)
        stream.news.set()

    def _fail_all(self, error: InferdError) -> None:
        for request_id in list(self._streams):
            self._refuse(request_id, error)

    # -- the engine's thread -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                core = self._load()
            except BaseException as error:
                if not self._tell_load_failed(error):
                    return
                continue
            self._tell(self._loaded, core)
            try:
                self._serve(core)
            except Exception as error:
                _log.exception("the engine died; it is being started again")
                self._tell(self._died, EngineDead(f"the engine ended: {error}"))
            finally:
                core.runner.close()

    def _serve(self, core: EngineCore) -> None:
        """Steps and commands until told to end."""
        while True:
            while not (self._commands.empty() and core.has_work):
                command = self._commands.get()
                if command is None:
                    return
                command(core)
            updates = core.step()
            if updates:
                self._tell(self._deliver, updates)

    def _tell_load_failed(self, error: BaseException) -> bool:
        """Whether to try again: not where it never worked."""
        if not self._ready.done():
            self._tell(self._never_ready, error)
            return False
        _log.error("the engine could not be started again: %s", error)
        self._drop_commands()
        return not self._closing

    def _drop_commands(self) -> None:
        """Wait a moment; what comes in it is for an engine that is not there."""
        try:
            if self._commands.get(timeout=RESTART_DELAY_S) is None:
                self._closing = True
        except queue.Empty:
            return

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._closing = True

    def _loaded(self, core: EngineCore) -> None:
        self.core = core
        if not self._ready.done():
            self._ready.set_result(None)

    def _never_ready(self, error: BaseException) -> None:
        self._ready.set_exception(error)

    def _died(self, error: EngineDead) -> None:
        self.core = None
        self.deaths += 1
        self._fail_all(error)
