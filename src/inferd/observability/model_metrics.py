"""The metrics of models of tensors: `nv_*` names and meanings are Triton's, `inferd_*` are what its
users miss. Read from the models' counters when a scrape asks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from inferd.observability.families import (
    COUNTER,
    GAUGE,
    Distribution,
    Labelled,
    Number,
    histograms,
)
from inferd.observability.statistics import ModelStatistics


class ModelView(Protocol):
    """What is read of one loaded model version."""

    name: str
    version: int
    statistics: ModelStatistics

    @property
    def metric_tags(self) -> Mapping[str, str]:
        """Labels of its own for all of its metrics, by name."""

    def queue_depth(self) -> int:
        """Requests that wait."""

    def queue_depths(self) -> dict[int, int]:
        """Requests that wait, by priority; nothing without priorities."""

    def in_flight(self) -> int:
        """Requests accepted and not answered."""

    def worker_restarts(self) -> int:
        """How often a worker process that had ended was started again."""

    def active_sequences(self) -> int:
        """Sequences that have a slot of an instance."""

    def backlogged_sequences(self) -> int:
        """Sequences that wait for a slot."""

    @property
    def keeps_answers(self) -> bool:
        """Whether its answers are kept."""


MODEL_METRICS: tuple[Number[ModelView], ...] = (
    Number("nv_inference_request_success", COUNTER,
           "Number of successful inference requests, all batch sizes",
           lambda m: m.statistics.success.count),
    Number("nv_inference_count", COUNTER,
           "Number of inferences performed (a batch of n counts n)",
           lambda m: m.statistics.inference_count),
    Number("nv_inference_exec_count", COUNTER, "Number of model executions performed",
           lambda m: m.statistics.execution_count),
    Number("nv_inference_request_duration_us", COUNTER,
           "Cumulative inference request duration in microseconds",
           lambda m: m.statistics.success.ns // 1000),
    Number("nv_inference_queue_duration_us", COUNTER,
           "Cumulative inference queuing duration in microseconds",
           lambda m: m.statistics.queue.ns // 1000),
    Number("nv_inference_compute_input_duration_us", COUNTER,
           "Cumulative compute input duration in microseconds",
           lambda m: m.statistics.compute_input.ns // 1000),
    Number("nv_inference_compute_infer_duration_us", COUNTER,
           "Cumulative compute inference duration in microseconds",
           lambda m: m.statistics.compute_infer.ns // 1000),
    Number("nv_inference_compute_output_duration_us", COUNTER,
           "Cumulative inference compute output duration in microseconds",
           lambda m: m.statistics.compute_output.ns // 1000),
    Number("nv_inference_pending_request_count", GAUGE,
           "Instantaneous number of pending requests awaiting execution",
           lambda m: m.queue_depth()),
    Number("nv_model_load_duration_secs", GAUGE, "Model load time in seconds",
           lambda m: m.statistics.load_ns / 1e9),
    Number("inferd_queue_depth", GAUGE, "Requests waiting in the queue",
           lambda m: m.queue_depth()),
    Number("inferd_requests_expired", COUNTER, "Requests refused because their time was over "
           "while they waited", lambda m: m.statistics.expired),
    Number("inferd_requests_delayed", COUNTER, "Requests put behind the others because their "
           "time was over while they waited", lambda m: m.statistics.delayed),
    Number("inferd_worker_restarts", COUNTER, "Worker processes that ended and were started "
           "again", lambda m: m.worker_restarts()),
    Number("inferd_in_flight", GAUGE, "Requests accepted and not yet answered",
           lambda m: m.in_flight()),
    Number("inferd_active_sequences", GAUGE, "Sequences that have a slot of an instance",
           lambda m: m.active_sequences()),
    Number("inferd_backlogged_sequences", GAUGE, "Sequences that wait for a slot",
           lambda m: m.backlogged_sequences()),
)  # fmt: skip


CACHE_METRICS: tuple[Number[ModelView], ...] = (
    Number("nv_cache_num_hits_per_model", COUNTER,
           "Number of requests answered from the response cache, per model",
           lambda m: m.statistics.cache_hit.count),
    Number("nv_cache_num_misses_per_model", COUNTER,
           "Number of requests whose answer was not in the response cache, per model",
           lambda m: m.statistics.cache_miss.count),
    Number("nv_cache_hit_duration_per_model", COUNTER,
           "Total cache hit duration per model, in microseconds",
           lambda m: m.statistics.cache_hit.ns // 1000),
    Number("nv_cache_miss_duration_per_model", COUNTER,
           "Total cache miss duration per model, in microseconds",
           lambda m: m.statistics.cache_miss.ns // 1000),
)  # fmt: skip
"""Of models whose answers are kept."""


MODEL_HISTOGRAMS: tuple[Distribution[ModelView], ...] = (
    Distribution("inferd_request_duration_seconds", "From arrival to answer, successful requests",
                 1e-9, lambda m: m.statistics.request_histogram),
    Distribution("inferd_queue_duration_seconds", "From arrival to start of execution", 1e-9,
                 lambda m: m.statistics.queue_histogram),
    Distribution("inferd_compute_duration_seconds", "Merge, inference and split of each batch",
                 1e-9, lambda m: m.statistics.compute_histogram),
    Distribution("inferd_batch_size", "Rows of each batch executed", 1.0,
                 lambda m: m.statistics.batch_histogram),
)  # fmt: skip

LABELS = ["model", "version"]
FAILURES = ("nv_inference_request_failure", "Number of failed inference requests, by reason")
DEPTHS = ("inferd_priority_queue_depth", "Requests waiting, of models with priorities, by level")
CLOSED = ("inferd_batches_closed", "Batches by the reason they were closed")
STEPS = ("inferd_ensemble_step_duration_seconds", "From the start of an ensemble's step to its end")


def model_metrics(models: Iterable[ModelView]) -> Iterator[Metric]:
    """What the page says of models."""
    found = list(models)
    # What a model does not have is empty, which is to Prometheus as if it were not there.
    tags = sorted({tag for model in found for tag in model.metric_tags})
    labels = [*LABELS, *tags]
    each: Labelled[ModelView] = [
        (m, [m.name, str(m.version), *(m.metric_tags.get(t, "") for t in tags)]) for m in found
    ]
    for number in MODEL_METRICS:
        yield number.read(labels, each)
    yield _by_reason(FAILURES, labels, each, lambda s: s.failures)
    yield _by_reason(CLOSED, labels, each, lambda s: s.closed)
    depths = GaugeMetricFamily(*DEPTHS, labels=[*labels, "priority"])
    for model, values in each:
        for level, depth in model.queue_depths().items():
            depths.add_metric([*values, str(level)], depth)
    yield depths
    for distribution in MODEL_HISTOGRAMS:
        yield distribution.read(labels, each)
    keeping = [(model, values) for model, values in each if model.keeps_answers]
    for number in CACHE_METRICS if keeping else ():
        yield number.read(labels, keeping)
    steps = [
        ([*values, *step], histogram)
        for model, values in each
        for step, histogram in model.statistics.steps.items()
    ]
    if steps:
        yield histograms(*STEPS, [*labels, "step", "step_model"], steps, 1e-9)


def _by_reason(
    name_help: tuple[str, str], labels: list[str], each: Labelled[ModelView],
    counts: Callable[[ModelStatistics], Mapping[Any, int]],
) -> Metric:  # fmt: skip
    family = CounterMetricFamily(*name_help, labels=[*labels, "reason"])
    for model, values in each:
        for reason, count in counts(model.statistics).items():
            family.add_metric([*values, reason], count)
    return family
