"""What inferd is to reach, each a ratio within one run, and whether it did."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.suite import Record, select
from benchmarks.workloads import OWN


def median(records: Sequence[Record], figure: str) -> float:
    """The median of a figure over rounds; 0 when there is none."""
    values = [float(r.figures[figure]) for r in records]
    return statistics.median(values) if values else 0.0


def groups(records: Sequence[Record]) -> dict[tuple[str, str, int], list[Record]]:
    """Records by server, wire and number of connections, in order of appearance."""
    found: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record.server, record.wire, record.connections), []).append(record)
    return found


def best_offline(records: Sequence[Record], workload: str) -> tuple[int, float]:
    """Batch size and rows a second of a framework's best by itself."""
    rates = {
        key[2]: median(rounds, "items_per_second")
        for key, rounds in groups(select(records, "offline", workload)).items()
    }
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]


def best_served(records: Sequence[Record], workload: str) -> tuple[int, float]:
    """Connections and rows a second of inferd's best; 0 and 0 where it was not served."""
    rates = {
        key[2]: median(rounds, "requests_per_second") * OWN[workload].request_rows
        for key, rounds in groups(select(records, "load", workload)).items()
    }
    best = max(rates, key=lambda count: rates[count], default=0)
    return best, rates.get(best, 0.0)


Figure = Callable[[Sequence[Record]], float | None]
"""None where the records do not have it."""


@dataclass(frozen=True)
class Bar:
    """A figure that is to be at least so much."""

    text: str
    least: float
    figure: Figure


def rate_of(records: Sequence[Record], workload: str, server: str, wire: str = "") -> float:
    """The best requests/s of a server at any number of connections."""
    rates = [
        median(rounds, "requests_per_second")
        for key, rounds in groups(select(records, "load", workload)).items()
        if key[0] == server and wire in ("", key[1])
    ]
    return max(rates, default=0.0)


def ratio(workload: str, peer: str, wire: str = "") -> Figure:
    """inferd's requests/s by a peer's."""

    def figure(records: Sequence[Record]) -> float | None:
        ours, theirs = rate_of(records, workload, "inferd", wire), rate_of(records, workload, peer)
        return ours / theirs if ours and theirs else None

    return figure


def worker(name: str) -> Figure:
    """A figure of the workers without HTTP."""

    def figure(records: Sequence[Record]) -> float | None:
        found = select(records, "worker")
        return median(found, name) if found else None

    return figure


def share(workload: str) -> Figure:
    """What is served of a framework's own best."""

    def figure(records: Sequence[Record]) -> float | None:
        served = best_served(records, workload)[1]
        if not served or not select(records, "offline", workload):
            return None
        return served / best_offline(records, workload)[1]

    return figure


BARS = (
    *(
        Bar(f"python-mlp, {wire}: inferd by mosec", 0.9, ratio("python-mlp", "mosec", wire))
        for wire in ("V2 JSON", "plain JSON")
    ),
    *(
        Bar(f"python-mlp, {wire}: inferd by {peer}", 8.0, ratio("python-mlp", peer, wire))
        for peer in ("litserve", "bentoml", "ray")
        for wire in ("V2 JSON", "plain JSON")
    ),
    Bar("tensor-4mb, GB/s into a worker", 1.5, worker("in_gb_per_second")),
    Bar("tensor-4mb, GB/s out of a worker", 1.5, worker("out_gb_per_second")),
    *(Bar(f"{name}: served by offline", 0.9, share(name)) for name in OWN),
    Bar("encoder-openvino: chosen by ONNX Runtime", 1.8,
        ratio("encoder-openvino", "inferd-onnxruntime")),
    Bar("trees: inferd by MLServer", 10.0, ratio("trees", "mlserver-xgboost")),
)  # fmt: skip


def bar_lines(records: Sequence[Record]) -> list[str]:
    """Each bar that was measured, and whether it was reached."""
    found = [(bar, bar.figure(records)) for bar in BARS]
    lines = [
        f"| {bar.text} | {bar.least:g} | {value:.2f} | {'yes' if value >= bar.least else 'NO'} |"
        for bar, value in found
        if value is not None
    ]
    if not lines:
        return []
    return ["## bars", "", "| what | at least | found | reached |", "|---|--:|--:|---|", *lines, ""]
