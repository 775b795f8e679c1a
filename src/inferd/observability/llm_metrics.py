"""The metrics of language models: vLLM's names and meanings, so that its dashboards work, and how
much of the KV cache is held and unused. Read from their counters when a scrape asks.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, Metric

from inferd.observability.families import COUNTER, GAUGE, Distribution, Number
from inferd.observability.generation_statistics import EngineGauges, GenerationStatistics


class LlmView(Protocol):
    """What is read of one loaded version of a language model."""

    name: str
    version: int
    statistics: GenerationStatistics

    def gauges(self) -> EngineGauges:
        """What the engine says of itself now."""


class LlmReading(NamedTuple):
    """All that is read of one at a scrape."""

    statistics: GenerationStatistics
    gauges: EngineGauges


LLM_METRICS: tuple[Number[LlmReading], ...] = (
    Number("vllm:num_requests_running", GAUGE, "Sequences that are being generated",
           lambda r: r.gauges.running),
    Number("vllm:num_requests_waiting", GAUGE, "Sequences that wait to run",
           lambda r: r.gauges.waiting),
    Number("vllm:kv_cache_usage_perc", GAUGE, "Share of the KV cache in use; 1 is all of it",
           lambda r: r.gauges.kv_usage),
    Number("vllm:prefix_cache_queries", COUNTER, "Tokens looked up in the prefix cache",
           lambda r: r.gauges.prefix_queries),
    Number("vllm:prefix_cache_hits", COUNTER, "Tokens found in the prefix cache",
           lambda r: r.gauges.prefix_hits),
    Number("vllm:num_preemptions", COUNTER, "Sequences that lost their blocks to others",
           lambda r: r.gauges.preemptions),
    Number("vllm:prompt_tokens", COUNTER, "Prompt tokens of answered requests",
           lambda r: r.statistics.prompt_tokens),
    Number("vllm:generation_tokens", COUNTER, "Tokens generated",
           lambda r: r.statistics.generation_tokens),
    Number("inferd_kv_waste_ratio", GAUGE,
           "Share of the slots held in the KV cache in which nothing has been written",
           lambda r: r.gauges.kv_waste),
    Number("inferd_llm_load_duration_seconds", GAUGE, "Load time of a language model",
           lambda r: r.statistics.load_ns / 1e9),
)  # fmt: skip


LLM_HISTOGRAMS: tuple[Distribution[LlmReading], ...] = (
    Distribution("vllm:time_to_first_token_seconds", "From a request's arrival to its first token",
                 1e-9, lambda r: r.statistics.first_token),
    Distribution("vllm:inter_token_latency_seconds", "From one token of a sequence to its next",
                 1e-9, lambda r: r.statistics.inter_token),
    Distribution("vllm:e2e_request_latency_seconds", "From a request's arrival to its end", 1e-9,
                 lambda r: r.statistics.request),
    Distribution("vllm:request_queue_time_seconds", "From a request's arrival until it first runs",
                 1e-9, lambda r: r.statistics.queue),
    Distribution("vllm:request_prefill_time_seconds", "From then to its first token", 1e-9,
                 lambda r: r.statistics.prefill),
    Distribution("vllm:request_decode_time_seconds", "From a request's first token to its last",
                 1e-9, lambda r: r.statistics.decode),
    Distribution("vllm:request_prompt_tokens", "Prompt tokens of each request", 1.0,
                 lambda r: r.statistics.request_prompt_tokens),
    Distribution("vllm:request_generation_tokens", "Tokens generated for each sequence", 1.0,
                 lambda r: r.statistics.request_generation_tokens),
    Distribution("vllm:request_params_max_tokens", "max_tokens of each request", 1.0,
                 lambda r: r.statistics.request_max_tokens),
    Distribution("vllm:request_params_n", "n of each request", 1.0,
                 lambda r: r.statistics.request_n),
)  # fmt: skip

LLM_LABELS = ["model_name", "engine"]
"""vLLM's; an engine is the version of a model here."""

LLM_FINISHED = ("vllm:request_success", "Sequences that ended, by why")


def llm_metrics(llms: Iterable[LlmView]) -> Iterator[Metric]:
    """What the page says of language models; nothing where there are none."""
    each = [
        (LlmReading(llm.statistics, llm.gauges()), [llm.name, str(llm.version)]) for llm in llms
    ]
    if not each:
        return
    for number in LLM_METRICS:
        yield number.read(LLM_LABELS, each)
    finished = CounterMetricFamily(*LLM_FINISHED, labels=[*LLM_LABELS, "finished_reason"])
    for reading, labels in each:
        for reason, count in reading.statistics.finished.items():
            finished.add_metric([*labels, reason], count)
    yield finished
    for distribution in LLM_HISTOGRAMS:
        yield distribution.read(LLM_LABELS, each)
