"""When a batch is closed and how much goes into it. Pure: sizes and times in, a decision out.

Names and meaning of the options are Triton's dynamic batcher's. What differs is the default: no
delay is ever added, a batch is whatever waits when an instance is free.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

CloseReason = Literal[
    "full", "enough", "preferred", "delay", "available", "mismatch", "unbatched", "retry"
]
"""Why a batch was closed: it could take no more; more would not have made it cheaper; it reached a
preferred size; its oldest request had waited long enough; an instance was free; the rest that waits
cannot share it; the model takes one request at a time; it is a part of a batch that failed."""

CLOSE_REASONS: tuple[CloseReason, ...] = (
    "full", "enough", "preferred", "delay", "available", "mismatch", "unbatched", "retry",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Close:
    """Run the first `count` requests of the group now."""

    count: int
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again at `until_ns`, or when another request comes."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How requests become batches; `max_batch_size` 0 or 1 is no batching of several requests.

    Of a model without batching so many as a `bundle` may be handed over together, to be run one
    after the other.
    """

    max_batch_size: int
    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0
    bundle: int = 1

    @property
    def explicit(self) -> bool:
        """Whether the configuration says how batches are formed, beyond their largest size."""
        return bool(self.preferred_batch_size or self.max_queue_delay_ns)

    def limit(self, enough: int) -> int:
        """The most rows that go together, of which `enough` (0: any number) are worth it."""
        if 0 < enough < self.max_batch_size and not self.explicit:
            return enough
        return max(1, self.max_batch_size)

    def decide(
        self,
        sizes: Iterable[int],
        oldest_arrival_ns: int,
        now_ns: int,
        others_wait: bool = False,
        enough: int = 0,
    ) -> Close | Wait:
        """Decide for one group of requests that may share a batch.

        `sizes` are the rows of each waiting request in order of arrival, at least one; a request
        never has more rows than `max_batch_size`. `others_wait` says that requests which cannot
        share the batch wait too. `enough`, if not 0, is how many rows are worth running together;
        what the configuration asks for goes before it.
        """
        if self.max_batch_size <= 0:
            if self.bundle == 1:
                return Close(1, "unbatched")
            most = min(self.bundle, enough or self.bundle)
            return Close(sum(1 for _ in islice(sizes, most)), "unbatched")
        limit = self.limit(enough)
        count = rows = preferred_count = 0
        full = False
        for size in sizes:
            if count and rows + size > limit:
                full = True
                break
            rows += size
            count += 1
            if rows in self.preferred_batch_size:
                preferred_count = count
        until_ns = oldest_arrival_ns + self.max_queue_delay_ns
        overdue = self.max_queue_delay_ns > 0 and now_ns >= until_ns
        if preferred_count and (preferred_count == count or not overdue):
            return Close(preferred_count, "preferred")
        if full or rows >= limit:
            return Close(count, "full" if limit == self.max_batch_size else "enough")
        if overdue:
            return Close(count, "delay")
        # Beyond the largest preferred size there is none to wait for.
        if self.max_queue_delay_ns and rows < max(self.preferred_batch_size, default=limit):
            return Wait(until_ns)
        return Close(count, "mismatch" if others_wait else "available")
