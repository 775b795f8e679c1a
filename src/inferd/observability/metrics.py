"""Every metric, declared in one table, read from the models' counters at scrape time.

`nv_*` names and meanings are Triton's and `vllm:*` vLLM's, so that their dashboards work;
`inferd_*` are what their users miss: histograms, batch sizes, why batches were closed, how much of
the KV cache is held and unused. Nothing here is on the path of a request.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from inferd.observability.custom_metrics import CustomMetrics
from inferd.observability.generation_statistics import EngineGauges, GenerationStatistics
from inferd.observability.statistics import Histogram, ModelStatistics
from inferd.observability.usage import CpuUtilization, memory_bytes, resident_bytes


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


class CacheView(Protocol):
    """What is read of the cache in this process."""

    size_bytes: int
    used_bytes: int
    entries: int
    evictions: int


class LlmView(Protocol):
    """What is read of one loaded version of a language model."""

    name: str
    version: int
    statistics: GenerationStatistics

    def gauges(self) -> EngineGauges:
        """What the engine says of itself now."""


Value = Callable[[ModelView], float]
LlmValue = Callable[[GenerationStatistics, EngineGauges], float]


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
    ModelMetric("inferd_requests_expired", COUNTER, "Requests refused because their time was over "
                "while they waited", lambda m: m.statistics.expired),
    ModelMetric("inferd_requests_delayed", COUNTER, "Requests put behind the others because their "
                "time was over while they waited", lambda m: m.statistics.delayed),
    ModelMetric("inferd_worker_restarts", COUNTER, "Worker processes that ended and were started "
                "again", lambda m: m.worker_restarts()),
    ModelMetric("inferd_in_flight", GAUGE, "Requests accepted and not yet answered",
                lambda m: m.in_flight()),
    ModelMetric("inferd_active_sequences", GAUGE, "Sequences that have a slot of an instance",
                lambda m: m.active_sequences()),
    ModelMetric("inferd_backlogged_sequences", GAUGE, "Sequences that wait for a slot",
                lambda m: m.backlogged_sequences()),
)  # fmt: skip


CACHE_METRICS: tuple[ModelMetric, ...] = (
    ModelMetric("nv_cache_num_hits_per_model", COUNTER,
                "Number of requests answered from the response cache, per model",
                lambda m: m.statistics.cache_hit.count),
    ModelMetric("nv_cache_num_misses_per_model", COUNTER,
                "Number of requests whose answer was not in the response cache, per model",
                lambda m: m.statistics.cache_miss.count),
    ModelMetric("nv_cache_hit_duration_per_model", COUNTER,
                "Total cache hit duration per model, in microseconds",
                lambda m: m.statistics.cache_hit.ns // 1000),
    ModelMetric("nv_cache_miss_duration_per_model", COUNTER,
                "Total cache miss duration per model, in microseconds",
                lambda m: m.statistics.cache_miss.ns // 1000),
)  # fmt: skip
"""Of models whose answers are kept."""


@dataclass(frozen=True, slots=True)
class CacheMetric:
    """A number of the cache in this process."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    help: str
    value: Callable[[CacheView], float]


LOCAL_CACHE_METRICS: tuple[CacheMetric, ...] = (
    CacheMetric("inferd_cache_size_bytes", GAUGE, "Most bytes that the response cache may hold",
                lambda c: c.size_bytes),
    CacheMetric("inferd_cache_used_bytes", GAUGE, "Bytes that the response cache holds",
                lambda c: c.used_bytes),
    CacheMetric("inferd_cache_utilization", GAUGE, "Share of the response cache in use",
                lambda c: c.used_bytes / c.size_bytes),
    CacheMetric("inferd_cache_entries", GAUGE, "Answers in the response cache",
                lambda c: c.entries),
    CacheMetric("inferd_cache_evictions", COUNTER, "Answers that made room for others",
                lambda c: c.evictions),
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


@dataclass(frozen=True, slots=True)
class LlmMetric:
    """A number of each language model: name, kind, help and how to read it."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    help: str
    value: LlmValue


LLM_METRICS: tuple[LlmMetric, ...] = (
    LlmMetric("vllm:num_requests_running", GAUGE, "Sequences that are being generated",
              lambda s, g: g.running),
    LlmMetric("vllm:num_requests_waiting", GAUGE, "Sequences that wait to run",
              lambda s, g: g.waiting),
    LlmMetric("vllm:kv_cache_usage_perc", GAUGE, "Share of the KV cache in use; 1 is all of it",
              lambda s, g: g.kv_usage),
    LlmMetric("vllm:prefix_cache_queries", COUNTER, "Tokens looked up in the prefix cache",
              lambda s, g: g.prefix_queries),
    LlmMetric("vllm:prefix_cache_hits", COUNTER, "Tokens found in the prefix cache",
              lambda s, g: g.prefix_hits),
    LlmMetric("vllm:num_preemptions", COUNTER, "Sequences that lost their blocks to others",
              lambda s, g: g.preemptions),
    LlmMetric("vllm:prompt_tokens", COUNTER, "Prompt tokens of answered requests",
              lambda s, g: s.prompt_tokens),
    LlmMetric("vllm:generation_tokens", COUNTER, "Tokens generated",
              lambda s, g: s.generation_tokens),
    LlmMetric("inferd_kv_waste_ratio", GAUGE,
              "Share of the slots held in the KV cache in which nothing has been written",
              lambda s, g: g.kv_waste),
    LlmMetric("inferd_llm_load_duration_seconds", GAUGE, "Load time of a language model",
              lambda s, g: s.load_ns / 1e9),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LlmHistogram:
    """A histogram of each language model; `scale` as of a ModelHistogram."""

    name: str
    help: str
    scale: float
    histogram: Callable[[GenerationStatistics], Histogram]


LLM_HISTOGRAMS: tuple[LlmHistogram, ...] = (
    LlmHistogram("vllm:time_to_first_token_seconds", "From a request's arrival to its first token",
                 1e-9, lambda s: s.first_token),
    LlmHistogram("vllm:inter_token_latency_seconds", "From one token of a sequence to its next",
                 1e-9, lambda s: s.inter_token),
    LlmHistogram("vllm:e2e_request_latency_seconds", "From a request's arrival to its end", 1e-9,
                 lambda s: s.request),
    LlmHistogram("vllm:request_queue_time_seconds", "From a request's arrival until it first runs",
                 1e-9, lambda s: s.queue),
    LlmHistogram("vllm:request_prefill_time_seconds", "From then to its first token", 1e-9,
                 lambda s: s.prefill),
    LlmHistogram("vllm:request_decode_time_seconds", "From a request's first token to its last",
                 1e-9, lambda s: s.decode),
    LlmHistogram("vllm:request_prompt_tokens", "Prompt tokens of each request", 1.0,
                 lambda s: s.request_prompt_tokens),
    LlmHistogram("vllm:request_generation_tokens", "Tokens generated for each sequence", 1.0,
                 lambda s: s.request_generation_tokens),
    LlmHistogram("vllm:request_params_max_tokens", "max_tokens of each request", 1.0,
                 lambda s: s.request_max_tokens),
    LlmHistogram("vllm:request_params_n", "n of each request", 1.0, lambda s: s.request_n),
)  # fmt: skip

LLM_LABELS = ["model_name", "engine"]
"""vLLM's; an engine is the version of a model here."""

LLM_FINISHED = ("vllm:request_success", "Sequences that ended, by why")

LABELS = ["model", "version"]
_NV_TOTAL = re.compile(rb"^((?:# (?:HELP|TYPE) )?nv_\w+)_total\b", re.MULTILINE)
FAILURES = ("nv_inference_request_failure", "Number of failed inference requests, by reason")
DEPTHS = ("inferd_priority_queue_depth", "Requests waiting, of models with priorities, by level")
CLOSED = ("inferd_batches_closed", "Batches by the reason they were closed")
STEPS = ("inferd_ensemble_step_duration_seconds", "From the start of an ensemble's step to its end")
RESPONSES = ("inferd_http_responses", "HTTP answers by status")
CALLS = ("inferd_grpc_calls", "gRPC calls that have ended, by method and status")


class ServerCollector:
    """Reads all counters when a scrape asks."""

    def __init__(
        self, models: Callable[[], Iterable[ModelView]], llms: Callable[[], Iterable[LlmView]],
        responses: Callable[[], dict[int, int]], calls: Callable[[], dict[tuple[str, str], int]],
        cache: Callable[[], CacheView | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._models = models
        self._llms = llms
        self._responses = responses
        self._calls = calls
        self._cache = cache
        self._cpu = CpuUtilization()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        found = list(self._models())
        # What a model does not have is empty, which is to Prometheus as if it were not there.
        tags = sorted({tag for model in found for tag in model.metric_tags})
        labels = [*LABELS, *tags]
        models = [(m, [m.name, str(m.version), *(m.metric_tags.get(t, "") for t in tags)])
                  for m in found]  # fmt: skip
        for metric in MODEL_METRICS:
            family = metric.kind(metric.name, metric.help, labels=labels)
            for model, values in models:
                family.add_metric(values, metric.value(model))
            yield family
        yield from _by_reason(FAILURES, labels, models, lambda s: s.failures)
        yield from _by_reason(CLOSED, labels, models, lambda s: s.closed)
        depths = GaugeMetricFamily(*DEPTHS, labels=[*labels, "priority"])
        for model, values in models:
            for level, depth in model.queue_depths().items():
                depths.add_metric([*values, str(level)], depth)
        yield depths
        for entry in MODEL_HISTOGRAMS:
            histograms = HistogramMetricFamily(entry.name, entry.help, labels=labels)
            for model, values in models:
                buckets, total = _buckets(entry.histogram(model.statistics), entry.scale)
                histograms.add_metric(values, buckets, total)
            yield histograms
        yield from _of_caches(labels, models, self._cache())
        yield from _of_steps(labels, models)
        yield from _of_llms(list(self._llms()))
        answers = CounterMetricFamily(*RESPONSES, labels=["status"])
        for status, count in sorted(self._responses().items()):
            answers.add_metric([str(status)], count)
        yield answers
        calls = CounterMetricFamily(*CALLS, labels=["method", "status"])
        for method_status, count in sorted(self._calls().items()):
            calls.add_metric(list(method_status), count)
        yield calls
        yield from self._machine()

    def _machine(self) -> Iterator[Metric]:
        total, available = memory_bytes()
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
        self, models: Callable[[], Iterable[ModelView]], llms: Callable[[], Iterable[LlmView]],
        responses: Callable[[], dict[int, int]], calls: Callable[[], dict[tuple[str, str], int]],
        cache: Callable[[], CacheView | None] = lambda: None,
        custom: CustomMetrics | None = None,
    ) -> None:  # fmt: skip
        self._custom = custom or CustomMetrics()
        self._registry = CollectorRegistry()
        self._registry.register(ServerCollector(models, llms, responses, calls, cache))

    def render(self) -> bytes:
        """The page in Prometheus' text format; Triton's counters lack the usual suffix."""
        own = _NV_TOTAL.sub(rb"\1", generate_latest(self._registry))
        return own + self._custom.render()


def _by_reason(
    name_help: tuple[str, str],
    labels: list[str],
    models: list[tuple[ModelView, list[str]]],
    counts: Callable[[ModelStatistics], Mapping[Any, int]],
) -> Iterator[Metric]:
    family = CounterMetricFamily(*name_help, labels=[*labels, "reason"])
    for model, values in models:
        for reason, count in counts(model.statistics).items():
            family.add_metric([*values, reason], count)
    yield family


def _of_caches(
    labels: list[str], models: list[tuple[ModelView, list[str]]], cache: CacheView | None
) -> Iterator[Metric]:
    keeping = [(model, values) for model, values in models if model.keeps_answers]
    for metric in CACHE_METRICS if keeping else ():
        family = metric.kind(metric.name, metric.help, labels=labels)
        for model, values in keeping:
            family.add_metric(values, metric.value(model))
        yield family
    if cache is None:
        return
    for entry in LOCAL_CACHE_METRICS:
        family = entry.kind(entry.name, entry.help, labels=[])
        family.add_metric([], entry.value(cache))
        yield family


def _of_steps(labels: list[str], models: list[tuple[ModelView, list[str]]]) -> Iterator[Metric]:
    ensembles = [(model, values) for model, values in models if model.statistics.steps]
    if not ensembles:
        return
    family = HistogramMetricFamily(*STEPS, labels=[*labels, "step", "step_model"])
    for model, values in ensembles:
        for step, histogram in model.statistics.steps.items():
            buckets, total = _buckets(histogram, 1e-9)
            family.add_metric([*values, *step], buckets, total)
    yield family


def _of_llms(llms: list[LlmView]) -> Iterator[Metric]:
    if not llms:
        return
    views = [([llm.name, str(llm.version)], llm.statistics, llm.gauges()) for llm in llms]
    for metric in LLM_METRICS:
        family = metric.kind(metric.name, metric.help, labels=LLM_LABELS)
        for labels, statistics, gauges in views:
            family.add_metric(labels, metric.value(statistics, gauges))
        yield family
    finished = CounterMetricFamily(*LLM_FINISHED, labels=[*LLM_LABELS, "finished_reason"])
    for labels, statistics, _ in views:
        for reason, count in statistics.finished.items():
            finished.add_metric([*labels, reason], count)
    yield finished
    for entry in LLM_HISTOGRAMS:
        histograms = HistogramMetricFamily(entry.name, entry.help, labels=LLM_LABELS)
        for labels, statistics, _ in views:
            buckets, total = _buckets(entry.histogram(statistics), entry.scale)
            histograms.add_metric(labels, buckets, total)
        yield histograms


def _buckets(histogram: Histogram, scale: float) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum of all values."""
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        running += count
        buckets.append((repr(round(bound * scale, 12)), running))
    buckets.append(("+Inf", running + histogram.counts[-1]))
    return buckets, histogram.total * scale
