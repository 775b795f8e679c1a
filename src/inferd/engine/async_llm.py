"""AsyncLLM: the asynchronous face of an engine, on the event loop's thread.

Streams, text and stop strings are made here. Where the engine runs is its host's business: it is
told commands and says events, once a step. An engine that ends by itself is dead: every waiting
request is told, and another is started.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from inferd.engine.core import SequenceUpdate
from inferd.engine.host.base import EngineHost, StartHost
from inferd.engine.host.messages import (
    Abort,
    Add,
    Command,
    Event,
    Finish,
    Loaded,
    Progress,
    Refused,
    Stepped,
)
from inferd.engine.text.output import OutputProcessor
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import BackendError, EngineDead, InferdError, ModelUnavailable
from inferd.observability.generation_statistics import EngineGauges
from inferd.types.generation import GenerationDelta, GenerationRequest

_log = logging.getLogger("inferd.engine")

T = TypeVar("T")

FIRST_DELAY_S: Final = 1.0
"""Between a start that was in vain and the next, at first; every further one waits twice as long.
The first after a good while starts at once."""

LONGEST_DELAY_S: Final = 30.0

GOOD_WHILE_S: Final = 60.0


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
    """The asynchronous face; made and used on the loop's thread.

    `start` starts an engine, at first and again after each death. `progress` is told of bytes done
    and in all while it loads.
    """

    def __init__(
        self, start: StartHost, tokenizer: Tokenizer,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.gauges = EngineGauges()
        """What the engine said of itself last."""
        self._start = start
        self._tokenizer = tokenizer
        self._progress = progress
        self._streams: dict[str, _Stream] = {}
        self._host: EngineHost | None = None
        self._loaded = False
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Loaded] = loop.create_future()
        self._pause: asyncio.Task[Any] | None = None
        self._life = loop.create_task(self._live())

    async def wait_ready(self) -> Loaded:
        """Wait for the first load, and what it told; raises why there is none."""
        return await asyncio.shield(self._ready)

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._loaded and not self._closing

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
            self._send(Add(request))
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
                self._send(Abort(request.id))

    async def drain(self) -> None:
        """Wait until no request is left. The caller has stopped adding."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the engine; requests that are left are told."""
        self._closing = True
        if self._pause is not None:
            self._pause.cancel()
        with suppress(asyncio.CancelledError):
            await self._life
        self._fail_all(ModelUnavailable("the model is being unloaded"))

    # -- requests --------------------------------------------------------------------------------

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

        return stream

    def _send(self, command: Command) -> None:
        if self._host is not None:
            self._host.send(command)

    def _refuse(self, request_id: str, error: InferdError) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.error, stream.open = error, 0
            stream.news.set()

    def _deliver(self, updates: list[SequenceUpdate]) -> None:
        """A step's updates."""
        for update in updates:
            stream = self._streams.get(update.request_id)
            if stream is None or not stream.open:
                continue
            if update.error is not None:
                self._refuse(update.request_id, update.error)
                self._send(Abort(update.request_id))
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
                self._send(Finish(update.sequence_id))
        if delta.finish_reason is not None:
            stream.open -= 1
        stream.deltas.append(delta)
        stream.news.set()

    def _fail_all(self, error: InferdError) -> None:
        for request_id in list(self._streams):
            self._refuse(request_id, error)

    # -- engines -----------------------------------------------------------------------------------

    async def _live(self) -> None:
        """One engine after another."""
        loop = asyncio.get_running_loop()
        delay_s = 0.0
        while True:
            started_s = loop.time()
            error = await self._one_life()
            if not self._ready.done():
                self._ready.set_exception(error)
                return
            _log.error("the engine ended and is being started again: %s", error)
            if loop.time() - started_s >= GOOD_WHILE_S:
                delay_s = 0.0
            await self._unless_closing(asyncio.sleep(delay_s))
            delay_s = min(max(2 * delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)

    async def _one_life(self) -> InferdError:
        """From an engine's start until nothing of it is left; why it ended."""
        try:
            async with self._start(self._hear) as self._host:
                try:
                    error = await self._unless_closing(self._host.wait())
                finally:
                    self._host, self._loaded, self.gauges = None, False, EngineGauges()
                self._fail_all(error)
                return error
        except Exception as error:  # the system has no process or thread to give
            return BackendError(f"no engine could be started: {error}")

    async def _unless_closing(self, wait: Coroutine[Any, Any, T]) -> T:
        """Wait; `close` cuts it short. All else that an engine's life waits for must not be cut
        short, or something of the engine would be left."""
        self._pause = pause = asyncio.create_task(wait)
        if self._closing:
            pause.cancel()
        return await pause

    def _hear(self, event: Event) -> None:
        match event:
            case Progress(done, total):
                if self._progress is not None:
                    self._progress(done, total)
            case Loaded():
                self._loaded = True
                if not self._ready.done():
                    self._ready.set_result(event)
            case Refused(request_id, error):
                self._refuse(request_id, error)
            case Stepped(updates, gauges):
                self.gauges = gauges
                self._deliver(updates)
