"""Every metric, declared in one table, read from the models' counters at scrape time.

`nv_*` names and meanings are Triton's, so that its dashboards work; `inferd_*` are what its users
miss: histograms, batch sizes, why batches were closed. Nothing here is on the path of a request.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from inferd.observability.statistics import Histogram, ModelStatistics


class ModelView(Protocol):
    """What is read of one loaded model version."""

    name: str
    version: int
    statistics: ModelStatistics

    def queue_depth(self) -> int:
        """Requests that wait."""

    def in_flight(self) -> int:
        """Requests accepted and not answered."""


Value = Callable[[ModelView], float]


@dataclass(frozen=True, slots=True)
class ModelMetric:
    """A number of each model: name, kind, help and how to read it."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    help: str
    value: Value


COUNTER, GAUGE = CounterMetricFamily, GaugeMetricFamily

MODEL_METRICS: tuple[ModelMetric, ...] = (
    ModelMetric("nv_inference_request_success", COUNTER,
                "Number of successful inference requests, all batch sizes",
                lambda m: m.statistics.success.count),
    ModelMetric("nv_inference_count", COUNTER,
                "Number of inferences performed (a batch of n counts n)",
                lambda m: m.statistics.inference_count),
    ModelMetric("nv_inference_exec_count", COUNTER, "Number of model executions performed",
                lambda m: m.statistics.execution_count),
    ModelMetric("nv_inference_request_duration_us", COUNTER,
                "Cumulative inference request duration in microseconds",
                lambda m: m.statistics.success.ns // 1000),
    ModelMetric("nv_inference_queue_duration_us", COUNTER,
                "Cumulative inference queuing duration in microseconds",
                lambda m: m.statistics.queue.ns // 1000),
    ModelMetric("nv_inference_compute_input_duration_us", COUNTER,
                "Cumulative compute input duration in microseconds",
                lambda m: m.statistics.compute_input.ns // 1000),
    ModelMetric("nv_inference_compute_infer_duration_us", COUNTER,
                "Cumulative compute inference duration in microseconds",
                lambda m: m.statistics.compute_infer.ns // 1000),
    ModelMetric("nv_inference_compute_output_duration_us", COUNTER,
                "Cumulative inference compute output duration in microseconds",
                lambda m: m.statistics.compute_output.ns // 1000),
    ModelMetric("nv_inference_pending_request_count", GAUGE,
                "Instantaneous number of pending requests awaiting execution",
                lambda m: m.queue_depth()),
    ModelMetric("nv_model_load_duration_secs", GAUGE, "Model load time in seconds",
                lambda m: m.statistics.load_ns / 1e9),
    ModelMetric("inferd_queue_depth", GAUGE, "Requests waiting in the queue",
                lambda m: m.queue_depth()),
    ModelMetric("inferd_in_flight", GAUGE, "Requests accepted and not yet answered",
                lambda m: m.in_flight()),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelHistogram:
    """A histogram of each model; `scale` turns its integers into the unit of its name."""

    name: str
    help: str
    scale: float
    histogram: Callable[[ModelStatistics], Histogram]


MODEL_HISTOGRAMS: tuple[ModelHistogram, ...] = (
    ModelHistogram("inferd_request_duration_seconds", "From arrival to answer, successful requests",
                   1e-9, lambda s: s.request_histogram),
    ModelHistogram("inferd_queue_duration_seconds", "From arrival to start of execution", 1e-9,
                   lambda s: s.queue_histogram),
    ModelHistogram("inferd_compute_duration_seconds", "Merge, inference and split of each batch",
                   1e-9, lambda s: s.compute_histogram),
    ModelHistogram("inferd_batch_size", "Rows of each batch executed", 1.0,
                   lambda s: s.batch_histogram),
)  # fmt: skip

LABELS = ["model", "version"]
_NV_TOTAL = re.compile(rb"\b(nv_\w+)_total\b")
FAILURES = ("nv_inference_request_failure", "Number of failed inference requests, by reason")
CLOSED = ("inferd_batches_closed", "Batches by the reason they were closed")
RESPONSES = ("inferd_http_responses", "HTTP answers by status")


class ServerCollector:
    """Reads all counters when a scrape asks."""

    def __init__(
        self, models: Callable[[], Iterable[ModelView]], responses: Callable[[], dict[int, int]]
    ) -> None:
        self._models = models
        self._responses = responses
        self._cpu = _CpuUtilization()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        models = list(self._models())
        for metric in MODEL_METRICS:
            family = metric.kind(metric.name, metric.help, labels=LABELS)
            for model in models:
                family.add_metric([model.name, str(model.version)], metric.value(model))
            yield family
        yield from _by_reason(FAILURES, models, lambda s: s.failures)
        yield from _by_reason(CLOSED, models, lambda s: s.closed)
        for entry in MODEL_HISTOGRAMS:
            histograms = HistogramMetricFamily(entry.name, entry.help, labels=LABELS)
            for model in models:
                buckets, total = _buckets(entry.histogram(model.statistics), entry.scale)
                histograms.add_metric([model.name, str(model.version)], buckets, total)
            yield histograms
        answers = CounterMetricFamily(*RESPONSES, labels=["status"])
        for status, count in sorted(self._responses().items()):
            answers.add_metric([str(status)], count)
        yield answers
        yield from self._machine()

    def _machine(self) -> Iterator[Metric]:
        total, available = _memory_bytes()
        yield GaugeMetricFamily("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]",
                                self._cpu.read())  # fmt: skip
        yield GaugeMetricFamily("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes",
                                total)  # fmt: skip
        yield GaugeMetricFamily("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes",
                                total - available)  # fmt: skip
        yield GaugeMetricFamily("inferd_resident_memory_bytes", "Resident memory of the server",
                                resident_bytes())  # fmt: skip


class MetricsRegistry:
    """The `/metrics` page."""

    def __init__(
        self, models: Callable[[], Iterable[ModelView]], responses: Callable[[], dict[int, int]]
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ServerCollector(models, responses))

    def render(self) -> bytes:
        """The page in Prometheus' text format; Triton's counters lack the usual suffix."""
        return _NV_TOTAL.sub(rb"\1", generate_latest(self._registry))


def _by_reason(
    name_help: tuple[str, str],
    models: list[ModelView],
    counts: Callable[[ModelStatistics], Mapping[Any, int]],
) -> Iterator[Metric]:
    family = CounterMetricFamily(*name_help, labels=[*LABELS, "reason"])
    for model in models:
        for reason, count in counts(model.statistics).items():
            family.add_metric([model.name, str(model.version), reason], count)
    yield family


def _buckets(histogram: Histogram, scale: float) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum of all values."""
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        running += count
        buckets.append((repr(round(bound * scale, 12)), running))
    buckets.append(("+Inf", running + histogram.counts[-1]))
    return buckets, histogram.total * scale


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * 4096


def _memory_bytes() -> tuple[int, int]:
    """Total and available memory of the machine; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    return values.get("MemTotal", 0), values.get("MemAvailable", 0)


class _CpuUtilization:
    """Share of all cores in use by the machine since the last reading."""

    def __init__(self) -> None:
        self._last = self._times()

    def read(self) -> float:
        busy, total = self._times()
        last_busy, last_total = self._last
        self._last = busy, total
        return (busy - last_busy) / (total - last_total) if total > last_total else 0.0

    @staticmethod
    def _times() -> tuple[float, float]:
        try:
            fields = [float(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return 0.0, time.monotonic()
        return sum(fields) - fields[3] - fields[4], sum(fields)
