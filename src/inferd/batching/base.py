"""What every batcher does for the requests that it has accepted: their timers, their traces, their
answers, and the one door through which each of them ends.

It refuses to know how batches are formed: `batcher.py` and `sequences/batcher.py` do.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence

from inferd.batching.batch import Batch, StreamPart
from inferd.batching.queue import DONE, QUEUED, RUNNING, QueuedRequest
from inferd.errors import BackendError, InferdError, QueueTimeout, RequestTimeout
from inferd.observability.statistics import FailureReason, ModelStatistics, ResponseEnd
from inferd.observability.tracing import NOT_TRACED, Compute
from inferd.types.inference import InferenceResponse, Parameters
from inferd.types.tensor import Array, Tensor, TensorSpec

_log = logging.getLogger("inferd.batching")
_clock_ns = time.perf_counter_ns


class Batcher:
    """Requests that were accepted, until they end. All of it runs on the event loop's thread."""

    def __init__(
        self,
        outputs: tuple[TensorSpec, ...],
        statistics: ModelStatistics,
        loop: asyncio.AbstractEventLoop,
        name: str,
        version: str,
        preserve_ordering: bool = False,
    ) -> None:
        self.running = 0
        """Batches handed to a runner and not back yet."""
        self.in_flight = 0
        """Requests accepted and not ended."""
        self.trace = NOT_TRACED
        """Whether requests are traced, and who is told of them."""
        self._outputs = outputs
        self._all_outputs = range(len(outputs))
        self._statistics = statistics
        self._loop = loop
        self._name = name
        self._version = version
        self._order: deque[QueuedRequest] | None = deque() if preserve_ordering else None
        self._idle: asyncio.Event | None = None

    # -- what each kind of batcher knows ---------------------------------------------------------

    def _withdraw(self, item: QueuedRequest) -> None:
        """Take a request that waits out of its queue."""
        raise NotImplementedError

    def _forsake(self, item: QueuedRequest) -> None:
        """Nobody waits any more for a request that runs."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        raise NotImplementedError

    @property
    def runs_now(self) -> bool:
        """Whether rows that were merged already might run before anybody waits for them."""
        return False

    def run_now(self, inputs: list[Array], rows: int, arrival_ns: int) -> list[Array] | None:
        """Run them, if they might; see DynamicBatcher."""
        return None

    def queue_depths(self) -> dict[int, int]:
        """Requests that wait, by priority; nothing without priorities."""
        return {}

    @property
    def _busy(self) -> bool:
        """Whether there is anything to do."""
        raise NotImplementedError

    # -- leaving ---------------------------------------------------------------------------------

    def cancel(self, item: QueuedRequest) -> None:
        """Give a request up: its caller has left and `on_done` is not called.

        Queued work is removed at once; running work goes on for its neighbours' sake.
        """
        if item.stage is DONE:
            item.result = None  # it may be held back for one before it
            return
        running = item.stage is RUNNING
        if not running:
            self._withdraw(item)
        self._end(item, None, "CANCELED")
        if running:
            self._forsake(item)

    async def drain(self) -> None:
        """Wait until nothing is queued or running. The caller has stopped adding."""
        if self._idle is None:
            self._idle = asyncio.Event()
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    def _rest(self) -> None:
        """Let who drains go on, when nothing is left to do."""
        if self._idle is not None and not self._busy:
            self._idle.set()

    # -- timers ----------------------------------------------------------------------------------

    def _set_timers(self, item: QueuedRequest, timeout_us: int, deadline_ns: int) -> None:
        item.timers = []
        if timeout_us:
            timer = self._loop.call_later(timeout_us / 1e6, self._expire_queued, item)
            item.timers.append(timer.cancel)
        if deadline_ns:
            left_s = max(0.0, (deadline_ns - _clock_ns()) / 1e9)
            item.timers.append(self._loop.call_later(left_s, self._expire, item).cancel)

    def _expire_queued(self, item: QueuedRequest) -> None:
        if item.stage is QUEUED:
            self._expire(item, QueueTimeout)

    def _expire(self, item: QueuedRequest, why: type[RequestTimeout] = RequestTimeout) -> None:
        if item.stage is DONE:
            return
        running = item.stage is RUNNING
        if not running:
            self._statistics.expired += item.riders
            self._withdraw(item)
        self._end(item, why("Request timeout expired"), "REJECTED")
        if running:
            self._forsake(item)

    # -- answers ---------------------------------------------------------------------------------

    def _split(
        self, batch: Batch, outputs: list[Array] | None,
        each: Sequence[Sequence[Array | None]] | None,
    ) -> tuple[Sequence[Sequence[Array | None]], BackendError | None]:  # fmt: skip
        """The outputs of each request of a batch, or why there are none."""
        if each is not None:
            return each, None
        outputs = outputs or []
        if batch.items and batch.on_part is None:
            count = len(batch.items[0].outputs_of or self._outputs)
            if len(outputs) < count:  # behind them may be states
                error = f"the model gave {len(outputs)} outputs, and has {count}"
                return [], BackendError(error)
        try:
            return batch.split(outputs), None
        except BackendError as error:
            return [], error

    def _succeeded(
        self, batch: Batch, parts: Sequence[Sequence[Array | None]], input_ns: int, infer_ns: int,
        split_ns: int, parameters: Mapping[int, Parameters] | None,
    ) -> None:  # fmt: skip
        """Count, trace and answer a batch whose splitting began at `split_ns`."""
        end_ns = _clock_ns()
        if batch.items:
            self._statistics.executed(
                sum([item.riders for item in batch.items]), batch.rows, input_ns, infer_ns,
                end_ns - split_ns, int(time.time() * 1000),
            )  # fmt: skip
        if batch.on_part is not None:
            for item in batch.items:
                if item.part_ns and item.stage is not DONE:
                    self._responded(item, "empty_response", end_ns)
        if self.trace.on:
            self._trace(batch, input_ns, infer_ns, end_ns)
        self._answer(batch, parts, end_ns, parameters)

    def _trace(self, batch: Batch, input_ns: int, infer_ns: int, end_ns: int) -> None:
        inputs_ns = batch.start_ns + input_ns
        compute = Compute(batch.start_ns, inputs_ns, inputs_ns + infer_ns, end_ns)
        for item in batch.items:
            if item.stage is not DONE:
                self._trace_one(item, end_ns, compute)

    def _trace_one(self, item: QueuedRequest, end_ns: int, compute: Compute | None = None) -> None:
        if item.riders == 1:  # others came before anything was traced
            self.trace.ended(int(self._version), item.request.id, item.arrival_ns, end_ns, compute)

    def _part(self, batch: Batch, part: StreamPart) -> None:
        item = batch.items[part.place]
        if item.stage is DONE or item.on_part is None:
            return
        came_ns = _clock_ns()
        if part.error is not None:
            item.on_part(part.error)
        else:
            response = self._response(item, part.arrays)
            response.parameters, response.final = part.parameters, part.final
            item.on_part(response)
        self._responded(item, "success" if part.error is None else "fail", came_ns)
        item.parts += 1
        if part.final:
            item.part_ns = 0

    def _responded(self, item: QueuedRequest, end: ResponseEnd, came_ns: int) -> None:
        """Count a response of a stream, or what came in its place."""
        before_ns, item.part_ns = item.part_ns, _clock_ns()
        infer_ns, output_ns = came_ns - before_ns, item.part_ns - came_ns
        self._statistics.responded(item.parts, end, infer_ns, output_ns)

    def _without_failed(self, batch: Batch, errors: dict[int, InferdError]) -> Batch:
        """Answer the requests that failed by themselves; the rest of the batch."""
        for index, error in errors.items():
            item = batch.items[index]
            if item.stage is not DONE:
                self._end(item, error, "BACKEND")
        items = [item for index, item in enumerate(batch.items) if index not in errors]
        rest = batch.like(items)
        rest.start_ns = batch.start_ns
        return rest

    def _answer(
        self, batch: Batch, parts: Sequence[Sequence[Array | None]], end_ns: int,
        parameters: Mapping[int, Parameters] | None,
    ) -> None:  # fmt: skip
        arrivals_ns = []
        for item, arrays in zip(batch.items, parts, strict=True):
            if item.stage is DONE:
                continue
            arrivals_ns.extend([item.arrival_ns] * item.riders)
            response = self._response(item, arrays)
            if parameters is not None:
                response.parameters = parameters.get(batch.items.index(item))
            if item.timers is None and self._order is None:
                # As `_end` does, without its cases: nearly every answer comes this way.
                item.stage = DONE
                self.in_flight -= item.riders
                _tell(item, response)
            else:
                self._end(item, response, None)
        self._statistics.succeeded(arrivals_ns, batch.start_ns, end_ns)

    def _response(self, item: QueuedRequest, arrays: Sequence[Array | None]) -> InferenceResponse:
        specs, wanted = self._outputs, item.outputs or self._all_outputs
        if item.outputs_of is not None:
            specs, wanted = item.outputs_of, range(len(item.outputs_of))
        if not arrays:  # the end of a stream
            wanted = ()
        tensors = [
            Tensor(specs[i].name, specs[i].datatype, array)
            for i in wanted
            if (array := arrays[i]) is not None
        ]
        return InferenceResponse(self._name, self._version, tensors, item.request.id)

    def _end(
        self,
        item: QueuedRequest,
        result: InferenceResponse | InferdError | None,
        reason: FailureReason | None,
    ) -> None:
        """The one place where a request ends; `result` None tells nobody."""
        item.stage = DONE
        self.in_flight -= item.riders
        # Riders who are told of a failure are counted as they come again.
        if reason is not None and (item.riders == 1 or result is None):
            end_ns = _clock_ns()
            for _ in range(item.riders):
                self._statistics.failed(reason, end_ns - item.arrival_ns)
            if item.part_ns:
                self._responded(item, "cancel" if reason == "CANCELED" else "fail", end_ns)
            if self.trace.on:
                self._trace_one(item, end_ns)
        if item.timers is not None:
            for cancel in item.timers:
                cancel()
            item.timers = None
        if self._order is None:
            if result is not None:
                _tell(item, result)
        else:
            item.result = result
            self._release()
        self._rest()

    def _release(self) -> None:
        """Answer in order of arrival: what is done behind something that is not, waits."""
        order = self._order
        while order and order[0].stage is DONE:
            item = order.popleft()
            if item.result is not None:
                _tell(item, item.result)


def _tell(item: QueuedRequest, result: InferenceResponse | InferdError) -> None:
    """Call back; a caller that raises must not cost its neighbours their answers."""
    try:
        item.on_done(result)
    except Exception:
        _log.exception("a caller failed on its answer", extra={"request": item.request.id})
