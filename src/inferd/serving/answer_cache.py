"""The answers of one model that are kept: looked up before a request is queued, kept when it has
been answered.

It refuses to know where they are kept (`caching/`) and how a request runs. Everything runs on the
loop's thread, but the digests of large requests.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence

from inferd.batching.queue import DONE, QueuedRequest
from inferd.caching.answer import KeptAnswer, answered, kept
from inferd.caching.key import request_key
from inferd.caching.local import LocalCache
from inferd.caching.redis import RedisCache
from inferd.errors import InferdError
from inferd.observability.statistics import ModelStatistics
from inferd.observability.tracing import NOT_TRACED
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import TensorSpec

Cache = LocalCache | RedisCache
Enqueue = Callable[[QueuedRequest], None]

LARGE_BYTES = 1 << 20
"""The digest of a request of more would hold the loop for about a millisecond."""

MOST_LOOKUPS = 1024
"""Requests of one model that are looked up elsewhere at the same time; others are just run."""

_clock_ns = time.perf_counter_ns


class AnswerCache:
    """Stands before a model's queue; `identity` says which model it is, as it is loaded now."""

    def __init__(
        self, cache: Cache, identity: Callable[[], bytes], name: str, version: str,
        statistics: ModelStatistics, loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._cache = cache
        self._identity = identity
        self._name = name
        self._version = version
        self._statistics = statistics
        self._loop = loop
        self.trace = NOT_TRACED
        self._open: set[QueuedRequest] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    def __len__(self) -> int:
        """Requests that are being looked up."""
        return len(self._open)

    def submit(
        self, item: QueuedRequest, identity: bytes, inputs: Sequence[TensorSpec], enqueue: Enqueue
    ) -> None:
        """Answer a request to the model of this identity by what is kept, or queue it; raises as
        `enqueue` does."""
        item.on_cancel = self._cancel
        began_ns = _clock_ns()
        large = sum([array.nbytes for array in item.arrays]) > LARGE_BYTES
        if isinstance(self._cache, LocalCache) and not large:
            key = request_key(identity, item.request, inputs, item.arrays)
            answer = self._cache.get(key)
            if answer is None:
                self._miss(item, key, identity, began_ns, enqueue)
            else:
                self._open.add(item)
                self._loop.call_soon(self._hit, item, answer, began_ns)
            return
        if len(self._open) >= MOST_LOOKUPS:
            enqueue(item)  # whose queue is bounded, too
            return
        self._open.add(item)
        self._spawn(self._look(item, identity, inputs, large, began_ns, enqueue))

    async def drain(self) -> None:
        """Wait until nothing is being looked up."""
        while self._open:
            self._idle.clear()
            await self._idle.wait()

    async def _look(
        self, item: QueuedRequest, identity: bytes, inputs: Sequence[TensorSpec], large: bool,
        began_ns: int, enqueue: Enqueue,
    ) -> None:  # fmt: skip
        def digest() -> bytes:
            return request_key(identity, item.request, inputs, item.arrays)

        key = await self._loop.run_in_executor(None, digest) if large else digest()
        if isinstance(self._cache, LocalCache):
            answer = self._cache.get(key)
        else:
            answer = await self._cache.get(key)
        if answer is not None:
            self._hit(item, answer, began_ns)
            return
        self._close(item)
        if item.stage is DONE:
            return
        on_done = item.on_done
        try:
            self._miss(item, key, identity, began_ns, enqueue)
        except InferdError as error:
            item.stage = DONE
            on_done(error)

    def _hit(self, item: QueuedRequest, answer: KeptAnswer, began_ns: int) -> None:
        self._close(item)
        if item.stage is DONE:
            return
        item.stage = DONE
        response = answered(answer, self._name, self._version, item.request.id)
        end_ns, wall_ms = _clock_ns(), int(time.time() * 1000)
        self._statistics.answered_from_cache(item.arrival_ns, began_ns, end_ns, wall_ms)
        self._trace(item, end_ns)
        item.on_done(response)

    def _miss(
        self, item: QueuedRequest, key: bytes, identity: bytes, began_ns: int, enqueue: Enqueue
    ) -> None:
        looked_ns = _clock_ns() - began_ns
        on_done = item.on_done

        def done(result: InferenceResponse | InferdError) -> None:
            if isinstance(result, InferenceResponse):
                kept_ns = _clock_ns()
                self._keep(key, identity, result)
                self._statistics.cache_miss.add(1, looked_ns + _clock_ns() - kept_ns)
            on_done(result)

        item.on_done = done
        enqueue(item)

    def _keep(self, key: bytes, identity: bytes, response: InferenceResponse) -> None:
        if not self._is_still(identity):
            return
        if isinstance(self._cache, RedisCache):
            self._spawn(self._cache.put(key, kept(response)))
            return
        size = sum([tensor.array.nbytes for tensor in response.outputs])
        if size <= self._cache.usage.size_bytes:  # a copy of what is larger would be for nothing
            self._cache.put(key, kept(response))

    def _is_still(self, identity: bytes) -> bool:
        """Whether the answer is of the model that was asked; of an ensemble's models one may have
        been loaded again meanwhile."""
        try:
            return self._identity() == identity
        except InferdError:
            return False

    def _cancel(self, item: QueuedRequest) -> None:
        """The caller has left while it was looked up."""
        if item.stage is not DONE:
            item.stage = DONE
            end_ns = _clock_ns()
            self._statistics.failed("CANCELED", end_ns - item.arrival_ns)
            self._trace(item, end_ns)

    def _trace(self, item: QueuedRequest, end_ns: int) -> None:
        """As of Triton's hits, there is nothing computed in it."""
        if self.trace.on:
            self.trace.ended(
                int(self._version), item.request.id, item.arrival_ns, end_ns, compute=None
            )

    def _close(self, item: QueuedRequest) -> None:
        self._open.discard(item)
        if not self._open:
            self._idle.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
