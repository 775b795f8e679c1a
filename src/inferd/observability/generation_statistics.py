"""Counters of one language model: plain integers, written on the loop's thread while text is made.

What they count follows vLLM's metrics. This module refuses to know metric names and output formats
(`metrics.py`).
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from inferd.observability.statistics import Histogram
from inferd.types.generation import GenerationDelta, GenerationRequest

_clock_ns = time.perf_counter_ns


def _ns(*seconds: float) -> tuple[int, ...]:
    return tuple(int(bound * 1e9) for bound in seconds)


FIRST_TOKEN_BOUNDS_NS = _ns(
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
    80, 160, 640, 2560,
)  # fmt: skip
INTER_TOKEN_BOUNDS_NS = _ns(
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
REQUEST_BOUNDS_NS = _ns(
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
TOKEN_BOUNDS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000,
)  # fmt: skip
N_BOUNDS = (1, 2, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """What an engine says of itself at one moment; shares are from 0 to 1."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    kv_waste: float = 0.0
    """The share of held slots of the KV cache in which nothing has been written."""
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0


class GenerationStatistics:
    """The counters of one loaded version of a language model."""

    def __init__(self) -> None:
        self.load_ns = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        """Sequences by why they ended."""
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS_NS)
        self.queue = Histogram(REQUEST_BOUNDS_NS)
        self.prefill = Histogram(REQUEST_BOUNDS_NS)
        self.inter_token = Histogram(INTER_TOKEN_BOUNDS_NS)
        self.request = Histogram(REQUEST_BOUNDS_NS)
        self.decode = Histogram(REQUEST_BOUNDS_NS)
        self.request_prompt_tokens = Histogram(TOKEN_BOUNDS)
        self.request_generation_tokens = Histogram(TOKEN_BOUNDS)
        self.request_max_tokens = Histogram(TOKEN_BOUNDS)
        self.request_n = Histogram(N_BOUNDS)


class RequestWatch:
    """Counts one request while it is generated. Times start when it is made."""

    __slots__ = ("_first_ns", "_last_ns", "_open", "_request", "_start_ns", "_statistics",
                 "_tokens", "failed", "refused")  # fmt: skip

    def __init__(self, statistics: GenerationStatistics, request: GenerationRequest) -> None:
        count = request.params.n
        self._statistics = statistics
        self._request = request
        self._start_ns = _clock_ns()
        self._first_ns = 0
        self._last_ns = [0] * count
        self._tokens = [0] * count
        self._open = count
        self.failed = False
        self.refused = False
        """Whether the engine did not take the request in: then it is not counted."""

    def saw(self, deltas: Iterable[GenerationDelta]) -> None:
        """Count what came now."""
        statistics, last_ns, now_ns = self._statistics, self._last_ns, _clock_ns()
        for delta in deltas:
            index, count = delta.index, len(delta.token_ids)
            if count:
                if last_ns[index]:
                    statistics.inter_token.observe(now_ns - last_ns[index])
                elif not self._first_ns:
                    self._first_ns = now_ns
                    statistics.first_token.observe(now_ns - self._start_ns)
                    if delta.queue_s is not None:
                        queue_ns = int(delta.queue_s * 1e9)
                        statistics.queue.observe(queue_ns)
                        statistics.prefill.observe(max(0, now_ns - self._start_ns - queue_ns))
                last_ns[index] = now_ns
                self._tokens[index] += count
                statistics.generation_tokens += count
            if delta.finish_reason is not None:
                self._open -= 1
                statistics.finished[delta.finish_reason] += 1

    def ended(self) -> None:
        """Count what is known at the end, which is an abort where sequences are left open."""
        statistics, request, now_ns = self._statistics, self._request, _clock_ns()
        if self.refused:
            return
        if self._open:
            statistics.finished["error" if self.failed else "abort"] += self._open
            if not self._first_ns:
                return
        prompt_tokens = len(request.prompt_token_ids)
        statistics.prompt_tokens += prompt_tokens
        statistics.request_prompt_tokens.observe(prompt_tokens)
        statistics.request_n.observe(request.params.n)
        if request.params.max_tokens is not None:
            statistics.request_max_tokens.observe(request.params.max_tokens)
        for count in self._tokens:
            statistics.request_generation_tokens.observe(count)
        statistics.request.observe(now_ns - self._start_ns)
        if self._first_ns:
            statistics.decode.observe(max(self._last_ns) - self._first_ns)
