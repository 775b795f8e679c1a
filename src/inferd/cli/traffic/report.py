"""From traces to figures: a table for people, plain data for programs. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from inferd.cli.traffic.trace import Trace

PERCENTILES = (50, 90, 99)
TIMES = {
    "ttft_ms": "first token",
    "itl_ms": "between tokens",
    "tpot_ms": "a token after the first",
    "e2e_ms": "whole answer",
}
"""What is timed, in milliseconds, and how a table calls it. Tokens that come in one packet have no
time between them; `tpot` shares an answer's time among all of its tokens."""

Summary = dict[str, float]


def summarize(traces: Sequence[Trace]) -> dict[str, Any]:
    """All figures of one load. Those of times and tokens are of the requests that succeeded."""
    good = [trace for trace in traces if not trace.error]
    errors = Counter(trace.error for trace in traces if trace.error)
    start_s = min((trace.due_s for trace in traces), default=0.0)
    duration_s = max((trace.end_s for trace in good), default=start_s) - start_s
    prompt = sum(trace.prompt_tokens for trace in good)
    output = sum(trace.tokens for trace in good)
    return {
        "duration_s": duration_s,
        "requests": {"completed": len(good), "failed": len(traces) - len(good)},
        "errors": dict(errors.most_common()),
        "tokens": {
            "prompt": prompt,
            "cached": sum(trace.cached_tokens for trace in good),
            "output": output,
        },
        "requests_per_s": _rate(len(good), duration_s),
        "output_tokens_per_s": _rate(output, duration_s),
        "total_tokens_per_s": _rate(prompt + output, duration_s),
        "ttft_ms": spread(1e3 * (t.first_s - t.due_s) for t in good),
        "itl_ms": spread(1e3 * gap_s for t in good for gap_s in t.gaps_s),
        "tpot_ms": spread(
            1e3 * (t.last_s - t.first_s) / (t.tokens - 1) for t in good if t.tokens > 1
        ),
        "e2e_ms": spread(1e3 * (t.end_s - t.due_s) for t in good),
    }


def spread(values: Iterable[float]) -> Summary:
    """Mean, percentiles and the largest; nothing where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    summary = {"mean": math.fsum(ordered) / len(ordered)}
    summary |= {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    return summary | {"max": ordered[-1]}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the sorted values lie, between two of them if need be."""
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def time_rows(figures: dict[str, Any]) -> list[list[str]]:
    """A row for each kind of time that there is, for a table with `TIME_HEADER`."""
    return [
        [title, *(f"{figures[name][column]:,.2f}" for column in TIME_HEADER[1:])]
        for name, title in TIMES.items()
        if figures[name]
    ]


TIME_HEADER = ("ms", "mean", *(f"p{percent}" for percent in PERCENTILES), "max")


def total_rows(figures: dict[str, Any]) -> list[list[str]]:
    """What the load was and got done, for a table of two columns."""
    requests, tokens = figures["requests"], figures["tokens"]
    failed = f", {requests['failed']:,} failed" if requests["failed"] else ""
    cached = f", {tokens['cached']:,} of them cached" if tokens["cached"] else ""
    return [
        ["requests", f"{requests['completed']:,} in {figures['duration_s']:.2f} s{failed}"],
        ["requests/s", f"{figures['requests_per_s']:,.2f}"],
        ["prompt tokens", f"{tokens['prompt']:,}{cached}"],
        ["output tokens", f"{tokens['output']:,}"],
        ["output tokens/s", f"{figures['output_tokens_per_s']:,.1f}"],
        ["all tokens/s", f"{figures['total_tokens_per_s']:,.1f}"],
    ]


def _rate(count: int, duration_s: float) -> float:
    return count / duration_s if duration_s > 0 else 0.0
