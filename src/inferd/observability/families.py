"""What a page of metrics is made of: numbers and distributions of each of many things, declared
once and read when a scrape asks. It refuses to know of what they are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from inferd.observability.statistics import Histogram

COUNTER, GAUGE = CounterMetricFamily, GaugeMetricFamily

T = TypeVar("T")

Labels = list[str]
Labelled = list[tuple[T, Labels]]
"""Things and the values of their labels."""


@dataclass(frozen=True, slots=True)
class Number(Generic[T]):
    """A number of each: name, kind, help and how to read it."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    help: str
    value: Callable[[T], float]

    def read(self, labels: Labels, each: Labelled[T]) -> CounterMetricFamily | GaugeMetricFamily:
        """What the page says of it; `labels` are names."""
        family = self.kind(self.name, self.help, labels=labels)
        for one, values in each:
            family.add_metric(values, self.value(one))
        return family


@dataclass(frozen=True, slots=True)
class Distribution(Generic[T]):
    """A histogram of each; `scale` turns its integers into the unit of its name."""

    name: str
    help: str
    scale: float
    histogram: Callable[[T], Histogram]

    def read(self, labels: Labels, each: Labelled[T]) -> HistogramMetricFamily:
        """See Number."""
        found = [(values, self.histogram(one)) for one, values in each]
        return histograms(self.name, self.help, labels, found, self.scale)


def histograms(
    name: str, help: str, labels: Labels, each: Iterable[tuple[Labels, Histogram]], scale: float
) -> HistogramMetricFamily:
    """Histograms by the values of their labels."""
    family = HistogramMetricFamily(name, help, labels=labels)
    for values, histogram in each:
        family.add_metric(values, *_buckets(histogram, scale))
    return family


def _buckets(histogram: Histogram, scale: float) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum of all values."""
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        running += count
        buckets.append((repr(round(bound * scale, 12)), running))
    buckets.append(("+Inf", running + histogram.counts[-1]))
    return buckets, histogram.total * scale
