"""What is counted of one loaded model version: plain integers, written on the hot path, read at
scrape. Durations are nanoseconds.

The counts follow Triton's statistics extension; the histograms are what its users miss. This module
refuses to know metric names and output formats (`metrics.py`).
"""

from bisect import bisect_left
from typing import Literal

FailureReason = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]

LATENCY_BOUNDS_NS = tuple(
    int(seconds * 1e9)
    for seconds in (
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
        5, 10,
    )
)  # fmt: skip
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Duration:
    """How often something happened and how long it took in all."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, count: int, ns: int) -> None:
        """Count `count` events that took `ns` together."""
        self.count += count
        self.ns += ns


class Histogram:
    """Counts by bucket; a value belongs to the first bound that is not below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_equal(self, value: int, count: int) -> None:
        """Count a value so many times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count


ResponseEnd = Literal["success", "fail", "empty_response", "cancel"]

MAX_RESPONSES = 1024
"""Of responses that stand further back in their streams nothing is kept."""


class ResponseStatistics:
    """Timings of the responses that stand at one place of their streams."""

    __slots__ = ("cancel", "compute_infer", "compute_output", "empty_response", "fail", "success")

    def __init__(self) -> None:
        self.compute_infer = Duration()
        self.compute_output = Duration()
        self.success = Duration()
        self.fail = Duration()
        self.empty_response = Duration()
        self.cancel = Duration()


class BatchSizeStatistics:
    """Timings of the executions of one batch size."""

    __slots__ = ("compute_infer", "compute_input", "compute_output")

    def __init__(self) -> None:
        self.compute_input = Duration()
        self.compute_infer = Duration()
        self.compute_output = Duration()


class ModelStatistics:
    """The counters of one loaded model version."""

    def __init__(self) -> None:
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.compute_input = Duration()
        self.compute_infer = Duration()
        self.compute_output = Duration()
        self.failures: dict[FailureReason, int] = {
            "REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": 0,
        }  # fmt: skip
        self.expired = 0
        """Requests whose time was over while they waited, and which were refused."""
        self.delayed = 0
        """Those that were put off instead."""
        self.inference_count = 0
        self.execution_count = 0
        self.last_inference_ms = 0
        self.batch_sizes: dict[int, BatchSizeStatistics] = {}
        self.responses: dict[int, ResponseStatistics] = {}
        """Of a model that streams, by their place."""
        self.closed: dict[str, int] = {}
        self.request_histogram = Histogram(LATENCY_BOUNDS_NS)
        self.queue_histogram = Histogram(LATENCY_BOUNDS_NS)
        self.compute_histogram = Histogram(LATENCY_BOUNDS_NS)
        self.batch_histogram = Histogram(BATCH_BOUNDS)
        self.steps: dict[tuple[str, str], Histogram] = {}
        """Of an ensemble: how long each step took, by its number and model."""
        self.cache_hit = Duration()
        self.cache_miss = Duration()
        self.load_ns = 0

    def batch_closed(self, reason: str) -> None:
        """Count why a batch was closed."""
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def executed(
        self, requests: int, rows: int, input_ns: int, infer_ns: int, output_ns: int, wall_ms: int
    ) -> None:
        """Count one execution that succeeded; `wall_ms` is the time of day since the epoch."""
        self.compute_input.add(requests, input_ns * requests)
        self.compute_infer.add(requests, infer_ns * requests)
        self.compute_output.add(requests, output_ns * requests)
        self.inference_count += rows
        self.execution_count += 1
        self.last_inference_ms = wall_ms
        self.batch_histogram.observe(rows)
        self.compute_histogram.observe(input_ns + infer_ns + output_ns)
        size = self.batch_sizes.get(rows)
        if size is None:
            size = self.batch_sizes[rows] = BatchSizeStatistics()
        size.compute_input.add(1, input_ns)
        size.compute_infer.add(1, infer_ns)
        size.compute_output.add(1, output_ns)

    def succeeded(self, arrivals_ns: list[int], start_ns: int, end_ns: int) -> None:
        """Count the requests of a batch that were answered: when each came, when the batch started
        and ended."""
        count, came_ns = len(arrivals_ns), sum(arrivals_ns)
        self.success.add(count, count * end_ns - came_ns)
        self.queue.add(count, count * start_ns - came_ns)
        queue_counts, request_counts = self.queue_histogram.counts, self.request_histogram.counts
        for arrival_ns in arrivals_ns:
            queue_counts[bisect_left(LATENCY_BOUNDS_NS, start_ns - arrival_ns)] += 1
            request_counts[bisect_left(LATENCY_BOUNDS_NS, end_ns - arrival_ns)] += 1
        self.queue_histogram.total += count * start_ns - came_ns
        self.request_histogram.total += count * end_ns - came_ns

    def succeeded_at_once(self, count: int, arrival_ns: int, start_ns: int, end_ns: int) -> None:
        """As `succeeded`, of requests that all came at the same time."""
        waited_ns, took_ns = start_ns - arrival_ns, end_ns - arrival_ns
        self.success.add(count, count * took_ns)
        self.queue.add(count, count * waited_ns)
        self.queue_histogram.observe_equal(waited_ns, count)
        self.request_histogram.observe_equal(took_ns, count)

    def answered_from_cache(
        self, arrival_ns: int, lookup_ns: int, end_ns: int, wall_ms: int
    ) -> None:
        """Count a request whose answer was kept: when it came, when the look-up began and ended."""
        self.succeeded_at_once(1, arrival_ns, lookup_ns, end_ns)
        self.cache_hit.add(1, end_ns - lookup_ns)
        self.last_inference_ms = wall_ms

    def failed(self, reason: FailureReason, request_ns: int) -> None:
        """Count one request that ended in an error or was given up."""
        self.failures[reason] += 1
        self.fail.add(1, request_ns)

    def responded(self, place: int, end: ResponseEnd, infer_ns: int, output_ns: int = 0) -> None:
        """Count one response of a stream, or the end that stands in its place: how long the model
        took for it, and how long it took to hand it on."""
        if place >= MAX_RESPONSES:
            return
        counted = self.responses.get(place)
        if counted is None:
            counted = self.responses[place] = ResponseStatistics()
        if end in ("success", "fail"):
            counted.compute_infer.add(1, infer_ns)
            counted.compute_output.add(1, output_ns)
        counted_end: Duration = getattr(counted, end)
        counted_end.add(1, infer_ns + output_ns)
