"""The metrics of the cache in this process, read when a scrape asks."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import Metric

from inferd.observability.families import COUNTER, GAUGE, Number


class CacheView(Protocol):
    """What is read of the cache in this process."""

    size_bytes: int
    used_bytes: int
    entries: int
    evictions: int


LOCAL_CACHE_METRICS: tuple[Number[CacheView], ...] = (
    Number("inferd_cache_size_bytes", GAUGE, "Most bytes that the response cache may hold",
           lambda c: c.size_bytes),
    Number("inferd_cache_used_bytes", GAUGE, "Bytes that the response cache holds",
           lambda c: c.used_bytes),
    Number("inferd_cache_utilization", GAUGE, "Share of the response cache in use",
           lambda c: c.used_bytes / c.size_bytes),
    Number("inferd_cache_entries", GAUGE, "Answers in the response cache",
           lambda c: c.entries),
    Number("inferd_cache_evictions", COUNTER, "Answers that made room for others",
           lambda c: c.evictions),
)  # fmt: skip


def cache_metrics(cache: CacheView | None) -> Iterator[Metric]:
    """What the page says of it; nothing where there is none."""
    if cache is not None:
        for number in LOCAL_CACHE_METRICS:
            yield number.read([], [(cache, [])])
