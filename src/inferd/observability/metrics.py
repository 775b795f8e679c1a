"""The page of metrics: all that a scrape gets, of models, language models, the cache, answers and
the machine. Nothing here is on the path of a request.

What is said of models is in `model_metrics.py`, `llm_metrics.py` and `cache_metrics.py`.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from inferd.observability.cache_metrics import CacheView, cache_metrics
from inferd.observability.custom_metrics import CustomMetrics
from inferd.observability.llm_metrics import LlmView, llm_metrics
from inferd.observability.model_metrics import ModelView, model_metrics
from inferd.observability.usage import CpuUtilization, memory_bytes, resident_bytes

RESPONSES = ("inferd_http_responses", "HTTP answers by status")
CALLS = ("inferd_grpc_calls", "gRPC calls that have ended, by method and status")

_NV_TOTAL = re.compile(rb"^((?:# (?:HELP|TYPE) )?nv_\w+)_total\b", re.MULTILINE)


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
        yield from model_metrics(self._models())
        yield from cache_metrics(self._cache())
        yield from llm_metrics(self._llms())
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
