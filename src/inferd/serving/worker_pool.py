"""The workers of one model version, and the choice of which runs each batch; a BatchRunner.

What a worker was running when it ended is told apart: a request that was alone in it is at fault
and gets the error; of several nobody knows, so each is run again by itself. A request that has
ended two workers is refused from then on (`workers/culprits.py`). Everything but `close` runs on
the loop's thread.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.estimate import RunTimeEstimate
from inferd.batching.queue import DONE, QueuedRequest
from inferd.config.model import ModelConfig
from inferd.errors import (
    BackendError,
    InferdError,
    InvalidRequest,
    ModelUnavailable,
    RequestCancelled,
    RequestTimeout,
)
from inferd.serving.batch_form import BatchForm, part_of
from inferd.serving.request_jobs import rows_of
from inferd.serving.worker_seat import Job, Seat, StartWorker
from inferd.types.tensor import Array
from inferd.workers.culprits import Culprits
from inferd.workers.messages import (
    Cancel,
    Done,
    Event,
    Health,
    Loaded,
    Parked,
    Part,
    Parted,
    Question,
    Refused,
    Took,
    VisitEvent,
    WorkerTerms,
)

TellBatch = Callable[[Batch, BatchResult], None]

MOST_JOBS = 512
"""Jobs that a worker has at a time where its model answers later, by senders."""

MEMORY_LOOK_S = 0.25
BUNDLE_NS = 2_000_000
"""How long requests that are handed over together, to be run one by one, may take."""

CANCEL_S = 1.0
"""How long an asynchronous request may take to notice that its time is over."""

_clock_ns = time.perf_counter_ns


async def start_all(starts: Iterable[Coroutine[Any, Any, Loaded | None]]) -> None:
    """Wait for all; the first to fail ends the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


class WorkerPool:
    """Runs batches in whichever worker has room."""

    def __init__(
        self, name: str, starts: Callable[[], StartWorker],
        asked: Callable[[Seat, Question], None], culprits: Culprits,
    ) -> None:  # fmt: skip
        self._name = name
        self._starts = starts
        """Says how the worker of another seat is started."""
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self._seats: list[Seat] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._secluded: deque[tuple[Batch, TellBatch]] = deque()
        """Batches that are to have a worker for themselves, and wait for one."""
        self._numbers = itertools.count(1)
        self._estimate = RunTimeEstimate()
        self.culprits = culprits
        self.concurrency = 1
        self.timeout_s = 0.0
        self.memory_limit_bytes = 0
        self.says_more = False
        """Whether it has ever said more of an answer than its tensors."""
        self._form: BatchForm
        """That of its batches: known when a worker has said what the model is."""
        self._streams: dict[QueuedRequest, tuple[Seat, Job]] = {}
        self.restarts = 0
        self._look: Callable[[], None] = lambda: None
        self._fail: Callable[[InferdError], None] = lambda error: None

    # -- life ------------------------------------------------------------------------------------

    async def open(self) -> Loaded:
        """Start the first worker; raises InferdError that says why it could not load."""
        seat = Seat(self._starts(), self._heard, self._lost)
        self._seats.append(seat)
        loaded = await seat.start()
        self._form = BatchForm(loaded)
        return loaded

    def set_terms(self, terms: WorkerTerms, config: ModelConfig) -> None:
        """How the model is to be run; its configuration goes before its code."""
        self.concurrency = terms.concurrency
        said_s = config.timeout_secs
        self.timeout_s = said_s if said_s is not None else terms.timeout_s or 0.0
        self.memory_limit_bytes = (config.memory_limit_mb or terms.memory_limit_mb or 0) << 20

    async def grow(self, workers: int) -> None:
        """Start the other workers, and from now on keep all alive; raises as `open`."""
        while len(self._seats) < workers:
            self._seats.append(Seat(self._starts(), self._heard, self._lost))
        await start_all(seat.start() for seat in self._seats if not seat.ready)
        self._keepers = [self._loop.create_task(self._keep(seat)) for seat in self._seats]
        if self.memory_limit_bytes:
            self._keepers.append(self._loop.create_task(self._watch_memory()))

    def close(self) -> None:
        """End the workers; blocks, off the loop."""
        asyncio.run_coroutine_threadsafe(self.aclose(), self._loop).result()

    async def aclose(self) -> None:
        """End the workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for seat in self._seats:
            seat.visits.lost(ModelUnavailable(f"model '{self._name}' is being unloaded"))
        await asyncio.gather(*[seat.close() for seat in self._seats])

    @property
    def seats(self) -> Sequence[Seat]:
        """The places of the workers."""
        return self._seats

    @property
    def says_ready(self) -> bool:
        """Whether the model says of itself that it is, wherever it runs."""
        return all(seat.says_ready for seat in self._seats if seat.ready)

    @property
    def trouble(self) -> str:
        """Why requests would fail now; nothing while a worker is there, or soon will be."""
        if any(seat.ready or not seat.restarts.hopeless for seat in self._seats):
            return ""
        return f"no worker can be kept alive: {self._seats[0].why}"

    async def _keep(self, seat: Seat) -> None:
        """Start a seat's worker again whenever it has ended."""
        while True:
            delay_s = await seat.ended()
            if self.trouble:
                self._give_up(BackendError(self.trouble))
            await asyncio.sleep(delay_s)
            self.restarts += 1
            try:
                await seat.start()
            except InferdError:
                continue
            self._use_room()

    def _give_up(self, error: InferdError) -> None:
        while self._secluded:
            batch, done = self._secluded.popleft()
            done(batch, BatchResult(None, error, 0, 0))
        self._fail(error)

    async def _watch_memory(self) -> None:
        limit = self.memory_limit_bytes
        while True:
            for seat in self._seats:
                used = seat.worker.resident_bytes() if seat.worker is not None else 0
                if seat.worker is not None and used > limit:
                    seat.worker.kill(
                        BackendError(
                            f"the worker of model '{self._name}' used {used >> 20} MB of memory, "
                            f"its memory_limit_mb is {limit >> 20}"
                        )
                    )
            await asyncio.sleep(MEMORY_LOOK_S)

    # -- BatchRunner -----------------------------------------------------------------------------

    def available(self) -> bool:
        """See BatchRunner."""
        return not self._secluded and self._room() is not None

    def available_ahead(self, rows: int) -> bool:
        """No: what a worker has when it ends is all under suspicion; see BatchRunner."""
        return False

    def enough(self, waiting: int, first: int = 1) -> int:
        """See BatchRunner: with several workers free, each gets its share; and of requests that run
        one after the other, the first does not wait long for the last."""
        free = sum(seat.ready and not seat.busy for seat in self._seats)
        if self._form.unbatched and self._form.requests:
            each_ns = min(self._estimate.predict(count) / count for count in (1, 8, 64))
            most = int(BUNDLE_NS // max(each_ns, 1))
            return max(1, min(most, -(-waiting // max(free, 1))))
        return -(-waiting // free) if free > 1 and self.concurrency == 1 else 0

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Whom to tell that a worker is there again, and that none can be kept alive."""
        self._look, self._fail = look, fail

    def runs_now(self, rows: int) -> bool:
        """A worker takes its time."""
        return False

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """See BatchRunner: a worker takes its time."""
        return None

    def drain_rate(self) -> float:
        """See BatchRunner."""
        rows = 1 << 5
        predicted = self._estimate.predict(rows)
        if predicted == float("inf") or predicted <= 0:
            return 0.0
        return rows * len(self._seats) * self.concurrency * 1e9 / predicted

    def run(self, batch: Batch, done: TellBatch, alone: bool = True) -> None:
        """See BatchRunner."""
        if batch.secluded:
            self._secluded.append((batch, done))
            self._place_secluded()
            return
        seat = self._room()
        assert seat is not None
        self._give(seat, batch, done)

    def cancelled(self, item: QueuedRequest) -> None:
        """Nobody waits for a request that runs: one that has a job of its own can be stopped, a
        model that looks at requests can ask, and one that was to be run by itself is not."""
        for place in self._secluded:
            if place[0].items == [item]:
                self._secluded.remove(place)
                batch, done = place
                done(batch, BatchResult(None, RequestCancelled("nobody waits for it"), 0, 0))
                return
        for seat in self._seats:
            for job in seat.jobs.values():
                items = job.batch.items
                if items == [item]:
                    seat.send(Cancel(job.number))
                    return
                if self._form.requests and item in items:
                    before = items[: items.index(item)]
                    seat.send(Cancel(job.number, len(rows_of(before))))
                    return

    def took(self, item: QueuedRequest, parts: int) -> None:
        """So many parts of a request's stream have gone on to its client."""
        found = self._streams.get(item)
        if found is not None:
            seat, job = found
            seat.send(Took(job.number, parts))

    # -- jobs ------------------------------------------------------------------------------------

    def _room(self) -> Seat | None:
        """The seat whose worker is at the fewest jobs, if there is one that may have another."""
        ready = [
            seat for seat in self._seats
            if seat.ready and not seat.secluded and len(seat.jobs) < MOST_JOBS
        ]  # fmt: skip
        least = min(ready, key=lambda seat: seat.busy, default=None)
        return least if least is not None and least.busy < self.concurrency else None

    def _use_room(self) -> None:
        self._place_secluded()
        self._look()

    def _place_secluded(self) -> None:
        while self._secluded:
            seat = next((seat for seat in self._seats if seat.ready and not seat.jobs), None)
            if seat is None:
                return
            batch, done = self._secluded.popleft()
            seat.secluded = True
            self._give(seat, batch, done)

    def _give(self, seat: Seat, batch: Batch, done: TellBatch) -> None:
        start_ns = _clock_ns()
        number = next(self._numbers)
        job = seat.jobs[number] = Job(number, batch, done)
        try:
            slot = job.slot = seat.take_slot()
            run = self._form.run(number, slot, batch, seat.windows(slot)[0])
        except (MemoryError, OSError, OverflowError) as error:
            self._end(seat, job, BatchResult(None, BackendError(str(error)), 0, 0))
            return
        if batch.on_part is not None:
            self._streams.update(dict.fromkeys(batch.items, (seat, job)))
        job.given_ns = _clock_ns()
        job.input_ns = job.given_ns - start_ns
        if self.timeout_s:
            job.timer = self._loop.call_later(self.timeout_s, self._overdue, seat, job)
        try:
            seat.send(run)
        except InvalidRequest as error:  # a parameter that does not cross
            self._end(seat, job, BatchResult(None, error, 0, 0))

    def _heard(self, seat: Seat, event: Event) -> None:
        match event:
            case Done():
                job = seat.jobs.get(event.job)
                if job is not None:
                    self._done(seat, job, event)
            case Refused(number, error):
                job = seat.jobs.get(number)
                if job is not None:
                    self._end(seat, job, BatchResult(None, error, 0, 0))
            case Parked(number):
                job = seat.jobs.get(number)
                if job is not None:
                    seat.park(job)
                    self._use_room()
            case Part(number):
                job = seat.jobs.get(number)
                if job is not None and job.batch.on_part is not None:
                    job.batch.on_part(part_of(event))
                    if job.batch.items[event.request].stage is DONE:
                        # Nobody will say that it went on; others of the job wait behind it.
                        seat.send(Took(number, 1))
            case Health(ready):
                seat.says_ready = ready
            case _ if isinstance(event, Question):
                self._asked(seat, event)
            case _ if isinstance(event, VisitEvent):
                seat.visits.heard(event)
                if isinstance(event, Parted) and event.error is None:
                    seat.restarts.answered()

    def _done(self, seat: Seat, job: Job, event: Done) -> None:
        self.says_more = self.says_more or bool(event.parameters)
        result = self._form.result(event, job.batch.items, seat.outputs(job, event))
        if job.overdue:
            self._blame_time(result)
        ran_ns = _clock_ns() - job.given_ns
        if result.error is None:
            seat.restarts.answered()
            self._estimate.observe(job.batch.rows, ran_ns)
        if job.batch.secluded:
            self._acquit(job)
        result.input_ns, result.infer_ns = job.input_ns, ran_ns
        self._end(seat, job, result)

    def _blame_time(self, result: BatchResult) -> None:
        """What failed when its time was over did so for that."""
        late = RequestTimeout(f"the model did not answer within {self.timeout_s:g} s")
        if result.error is not None:
            result.error = late
        elif self._form.requests:
            result.errors = dict.fromkeys(result.errors, late)

    def _end(self, seat: Seat, job: Job, result: BatchResult) -> None:
        self._free(seat, job)
        if not seat.jobs:
            seat.secluded = False
        self._place_secluded()
        job.done(job.batch, result)

    def _free(self, seat: Seat, job: Job) -> None:
        seat.free(job)
        if job.batch.on_part is not None:
            for item in job.batch.items:
                self._streams.pop(item, None)

    # -- what goes wrong -------------------------------------------------------------------------

    def _overdue(self, seat: Seat, job: Job) -> None:
        why = RequestTimeout(
            f"model '{self._name}' did not answer within {self.timeout_s:g} s, and its worker was "
            "ended"
        )
        if self.concurrency == 1 or job.overdue:
            if seat.worker is not None:
                seat.worker.kill(why)
            return
        job.overdue = True
        seat.send(Cancel(job.number))
        job.timer = self._loop.call_later(CANCEL_S, self._overdue, seat, job)

    def _lost(self, seat: Seat, why: InferdError) -> None:
        """A worker has ended: its jobs are answered, or run again."""
        jobs = list(seat.jobs.values())
        running = sum(item.riders for job in jobs for item in job.batch.items)
        running += 0 if seat.secluded else len(seat.visits)
        seat.visits.lost(why)
        for job in jobs:
            self._free(seat, job)
            error = why
            for item in job.batch.items:
                method, arrays = item.request.method, item.arrays
                if item.riders != 1:
                    continue
                if running > 1:
                    self.culprits.suspect(method, arrays)
                elif self.culprits.accuse(method, arrays):
                    error = type(why)(f"{why}; this request has ended two workers and is refused "
                                      "from now on")  # fmt: skip
            again = running > 1
            ran_ns = _clock_ns() - job.given_ns
            job.done(job.batch, BatchResult(None, error, job.input_ns, ran_ns, again=again))
        seat.secluded = False

    def _acquit(self, job: Job) -> None:
        for item in job.batch.items:
            self.culprits.acquit(item.request.method, item.arrays)
