"""A runner whose instances run only while they hold resources: a ModelRunner around another.

Which instance of the other really runs a batch is its own choice; the instances of one model are
alike, so what is counted is how many of them run.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.batching.rate_limiter import LimitedInstance, Limits, RateLimiter
from inferd.errors import InferdError
from inferd.serving.loaded_model import ModelRunner
from inferd.types.tensor import Array

Done = Callable[[Batch, BatchResult], None]


def limited(runners: Sequence[ModelRunner], limits: Limits | None) -> Sequence[ModelRunner]:
    """Runners that keep to what limits their instances, which are dealt out among them."""
    if limits is None:
        return runners
    return [
        LimitedRunner(runner, limits.limiter, limits.instances[place :: len(runners)])
        for place, runner in enumerate(runners)
    ]


class LimitedRunner:
    """Runs a batch when an instance may run; each batch that an instance runs at the same time as
    another needs resources of its own."""

    def __init__(
        self, runner: ModelRunner, limiter: RateLimiter, instances: Sequence[LimitedInstance]
    ) -> None:
        self.free = [replace(one) for one in instances for _ in range(runner.concurrency)]
        """What may be given a batch."""
        self._next: LimitedInstance | None = None
        self._runner = runner
        self._limiter = limiter
        self._look: Callable[[], None] = lambda: None
        self._waits: Callable[[], bool] = lambda: False

    # -- Waiter ----------------------------------------------------------------------------------

    def wants(self) -> bool:
        """See Waiter."""
        return self._waits() and self._runner.available()

    def look(self) -> None:
        """See Waiter."""
        self._look()

    # -- ModelRunner -----------------------------------------------------------------------------

    def available(self) -> bool:
        """Whether an instance is free that may run; see BatchRunner."""
        if not self._runner.available():
            return False
        self._next = self._limiter.first(self)
        if self._next is None:
            self._limiter.enter_line(self)
            return False
        self._limiter.leave_line(self)
        return True

    def available_ahead(self, rows: int) -> bool:
        """No: what waits behind another holds nothing."""
        return False

    def enough(self, waiting: int, first: int) -> int:
        """See BatchRunner."""
        return self._runner.enough(waiting, first)

    def run(self, batch: Batch, done: Done, alone: bool = True) -> None:
        """Run a batch, for which `available` has just said that there is an instance; see
        BatchRunner."""
        instance = self._next
        assert instance is not None
        self._limiter.start(self, instance)
        self._runner.run(batch, partial(self._finished, instance, done), alone)

    def _finished(
        self, instance: LimitedInstance, done: Done, batch: Batch, result: BatchResult
    ) -> None:
        self._limiter.end(self, instance)
        done(batch, result)

    def runs_now(self, rows: int) -> bool:
        """See ModelRunner."""
        return self._runner.runs_now(rows) and self._limiter.first(self) is not None

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """See BatchRunner."""
        instance = self._limiter.first(self)
        if instance is None or not self._runner.runs_now(rows):
            return None
        self._limiter.start(self, instance)
        try:
            return self._runner.run_now(inputs, rows)
        finally:
            self._limiter.end(self, instance)

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        """See ModelRunner."""
        self._look, self._waits = look, waits
        self._runner.attach(look, fail, waits)

    def cancelled(self, item: QueuedRequest) -> None:
        """See BatchRunner."""
        self._runner.cancelled(item)

    def took(self, item: QueuedRequest, parts: int) -> None:
        """See ModelRunner."""
        self._runner.took(item, parts)

    def drain_rate(self) -> float:
        """See BatchRunner; without what is held up by others."""
        return self._runner.drain_rate()

    def close(self) -> None:
        """See ModelRunner."""
        self._runner.close()

    @property
    def concurrency(self) -> int:
        """See ModelRunner."""
        return self._runner.concurrency

    @property
    def restarts(self) -> int:
        """See ModelRunner."""
        return self._runner.restarts

    @property
    def trouble(self) -> str:
        """See ModelRunner."""
        return self._runner.trouble
