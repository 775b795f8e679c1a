"""One place for a worker: the one that is there now, what it is running, and its successors.

It refuses to choose what is run where (`worker_pool.py`).
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.observability.custom_metrics import Meter
from inferd.serving.visits import Visits
from inferd.types.tensor import Array
from inferd.workers.memory import KEPT_BYTES, SLOTS, Window, unpack, unpack_lent
from inferd.workers.messages import Command, Done, Event, Loaded
from inferd.workers.process import Worker
from inferd.workers.restarts import Restarts

_log = logging.getLogger("inferd.worker")

StartWorker = Callable[[Callable[[Event], None], Callable[[InferdError], None]], Awaitable[Worker]]
"""Starts a worker, which tells these two what it says and why it has ended. Raises InferdError."""

NO_SLOT: Final = -1

LENT_BYTES: Final = 1 << 20
"""Outputs that are larger together are not copied: their slot is lent to whoever holds them."""

MOST_LENT: Final = SLOTS // 2
KEPT_SLOTS: Final = 4
"""So many slots keep their memory, of those that are free again and of those that are lent."""


@dataclass(slots=True, eq=False)
class Job:
    """A batch that runs."""

    number: int
    batch: Batch
    done: Callable[[Batch, BatchResult], None]
    slot: int = NO_SLOT
    given_ns: int = 0
    input_ns: int = 0
    overdue: bool = False
    parked: bool = False
    """Whether the model has done with it for now, and answers later."""
    timer: asyncio.TimerHandle | None = None


class Seat:
    """One place; `lost` is told of a worker that ended after it had loaded."""

    def __init__(
        self, start: StartWorker, heard: Callable[["Seat", Event], None],
        lost: Callable[["Seat", InferdError], None],
    ) -> None:  # fmt: skip
        self._start = start
        self._heard = heard
        self._lost = lost
        self.worker: Worker | None = None
        self.ready = False
        self.secluded = False
        """Whether what runs is to run by itself."""
        self.jobs: dict[int, Job] = {}
        self.parked = 0
        """How many of them are."""
        self.visits = Visits(self.send, self._end_worker)
        self.asks: dict[int, QueuedRequest] = {}
        """What the worker asks of other models, and has not been answered."""
        self.meters: dict[int, Meter] = {}
        """Metrics that the worker has made, by the numbers of its questions."""
        self.drop_meter: Callable[[Meter], None] = lambda meter: None
        self.says_ready = True
        """What the worker's model says of itself."""
        self.restarts = Restarts()
        self.why = ""
        self._was_running = False
        self._slots: list[int] = []
        self._next_slot = 0
        self._loaded: asyncio.Future[Loaded] = asyncio.Future()
        self._ended: asyncio.Future[InferdError] = asyncio.Future()

    async def start(self) -> Loaded:
        """Start a worker and wait until it has loaded; raises InferdError that says why not."""
        loop = asyncio.get_running_loop()
        loaded = self._loaded = loop.create_future()
        ended = self._ended = loop.create_future()
        self.forget_slots()
        self.says_ready = True

        def hear(event: Event) -> None:
            if isinstance(event, Loaded):
                loaded.set_result(event)
                self.restarts.born(time.monotonic())
                self.ready = True
            else:
                self._heard(self, event)

        def end(why: InferdError) -> None:
            was_ready, self.ready, self.worker, self.why = self.ready, False, None, str(why)
            self._was_running = bool(self.jobs) or bool(self.visits)
            self._drop_asks()
            ended.set_result(why)
            if was_ready:
                self._lost(self, why)

        async def begin() -> None:
            self.worker = await self._start(hear, end)

        beginning = loop.create_task(begin())
        try:
            await asyncio.shield(beginning)
        except asyncio.CancelledError:  # half a process cannot be closed, a whole one can
            await asyncio.wait((beginning,))
            raise
        except OSError as error:
            failure = BackendError(f"a worker process cannot be started: {error}")
            end(failure)
            raise failure from error
        await asyncio.wait((loaded, ended), return_when=asyncio.FIRST_COMPLETED)
        if not loaded.done():
            raise ended.result()
        told: Loaded = loaded.result()
        return told

    async def ended(self) -> float:
        """Wait for the end of the worker; seconds to wait before another is started."""
        why = await asyncio.shield(self._ended)
        delay_s = self.restarts.ended(time.monotonic(), self._was_running)
        _log.error(
            "a worker ended and is started again",
            extra={"reason": str(why), "seconds": delay_s},
        )
        return delay_s

    async def close(self) -> None:
        """End the worker."""
        self.ready = False
        if self.worker is not None:
            await self.worker.close()
        self._drop_asks()

    @property
    def busy(self) -> int:
        """How many jobs the worker is at."""
        return len(self.jobs) - self.parked

    def park(self, job: Job) -> None:
        """The model answers a job later."""
        job.parked = True
        self.parked += 1

    @property
    def load(self) -> tuple[bool, int] | None:
        """How much there is to do, a request that is to run by itself before all else; None where
        no worker is ready."""
        return (self.secluded, len(self.jobs) + len(self.visits)) if self.ready else None

    def _drop_asks(self) -> None:
        """Nobody waits for the answers any more, or moves the metrics."""
        asks, self.asks = self.asks, {}
        for item in asks.values():
            item.cancel()
        meters, self.meters = self.meters, {}
        for meter in meters.values():
            self.drop_meter(meter)

    def _end_worker(self, why: InferdError) -> None:
        if self.worker is not None:
            self.worker.kill(why)

    def send(self, command: Command) -> None:
        """Tell the worker, if there is one."""
        if self.worker is not None:
            self.worker.send(command)

    def windows(self, slot: int) -> tuple[Window, Window]:
        """Shared memory of a slot: what goes in, what comes out."""
        assert self.worker is not None
        return self.worker.windows(slot)

    def forget_slots(self) -> None:
        """Another worker has other memory: what is lent of the last one's comes back to nobody."""
        self._slots = []
        self._next_slot = 0

    def take_slot(self) -> int:
        """A slot that no job has; raises MemoryError when there is none, since the model holds on
        to the memory of too many."""
        if self._slots:
            return self._slots.pop()
        if self._next_slot == SLOTS:
            raise MemoryError(f"all {SLOTS} pieces of the memory shared with a worker are in use")
        self._next_slot += 1
        return self._next_slot - 1

    def outputs(self, job: Job, done: Done) -> list[Array]:
        """What a job that has ended gave, merged. Its slot is free when the job is, or when nobody
        holds any of these any more; never, where the model holds on to its memory."""
        inward, outward = self.windows(job.slot)
        size = sum([p.size for p in done.outputs if isinstance(p.data, int)])
        taken = self._next_slot - len(self._slots) - len(self.jobs)
        lent = size > LENT_BYTES and taken < MOST_LENT
        if lent:
            arrays, whole = unpack_lent(done.outputs, outward)
        else:
            arrays = [unpack(packed, outward, True) for packed in done.outputs]
            outward.trim()
        if done.kept:
            job.slot = NO_SLOT
            return arrays
        inward.trim(0 if lent and taken >= KEPT_SLOTS else KEPT_BYTES)
        if lent:
            slots, slot, job.slot = self._slots, job.slot, NO_SLOT

            def come_back() -> None:  # on whatever thread lets go of the last
                outward.trim(KEPT_BYTES if len(slots) < KEPT_SLOTS else 0)
                slots.append(slot)

            weakref.finalize(whole, come_back).atexit = False
        return arrays

    def free(self, job: Job) -> None:
        """A job has ended."""
        if self.jobs.pop(job.number, None) is not None:
            self.parked -= job.parked
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        if job.slot != NO_SLOT:
            self._slots.append(job.slot)
