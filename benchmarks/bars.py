"""What inferd is to reach, each a ratio within one run, and whether it did."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.grpc_tensor import GRPC_CLIENT, GRPC_H2LOAD, HTTP_CLIENT, HTTP_SOCKETS
from benchmarks.suite import Record, select
from benchmarks.workloads import GRPC_MLP, GRPC_TENSOR, OWN


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
    """A figure that is to be at least so much, or at most where `most` is true."""

    text: str
    bar: float
    figure: Figure
    most: bool = False

    def reached(self, value: float) -> bool:
        """Whether it is."""
        return value <= self.bar if self.most else value >= self.bar


def rate_of(
    records: Sequence[Record], workload: str, server: str, wire: str = "", kind: str = "load"
) -> float:
    """The best requests/s of a server at any number of connections."""
    rates = [
        median(rounds, "requests_per_second")
        for key, rounds in groups(select(records, kind, workload)).items()
        if key[0] == server and wire in ("", key[1])
    ]
    return max(rates, default=0.0)


def ratio(workload: str, peer: str, wire: str = "") -> Figure:
    """inferd's requests/s by a peer's."""

    def figure(records: Sequence[Record]) -> float | None:
        ours, theirs = rate_of(records, workload, "inferd", wire), rate_of(records, workload, peer)
        return ours / theirs if ours and theirs else None

    return figure


def called(wire: str, *peers: str) -> Figure:
    """inferd's calls/s by the best peer's, both under the same load."""

    def figure(records: Sequence[Record]) -> float | None:
        ours = rate_of(records, GRPC_MLP.name, "inferd", wire)
        theirs = [rate_of(records, GRPC_MLP.name, peer, wire) for peer in peers]
        return ours / max(theirs) if ours and all(theirs) else None

    return figure


def p99_of_triton(wire: str) -> Figure:
    """Triton's p99 by inferd's, both under the same load."""

    def figure(records: Sequence[Record]) -> float | None:
        found = groups(select(records, "load", GRPC_MLP.name))
        p99 = {key[0]: median(rounds, "p99_ms") for key, rounds in found.items() if key[1] == wire}
        return p99["triton"] / p99["inferd"] if {"triton", "inferd"} <= p99.keys() else None

    return figure


def tensor_over_grpc(grpc: str, http: str) -> Figure:
    """How long a large tensor takes over gRPC, by how long over HTTP."""

    def figure(records: Sequence[Record]) -> float | None:
        rates = [rate_of(records, GRPC_TENSOR.name, "inferd", wire, "tensor")
                 for wire in (http, grpc)]  # fmt: skip
        return rates[0] / rates[1] if all(rates) else None

    return figure


def p50_beside_slow_streams(records: Sequence[Record]) -> float | None:
    """Others' p50 beside slow streams by what it is without."""
    found = select(records, "slow-streams")
    return median(found, "p50_with_ms") / median(found, "p50_before_ms") if found else None


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
    *(
        Bar(f"grpc-mlp, {wire}: inferd by {text}", bar, called(wire, *peers))
        for wire in ("h2load", "grpc.aio")
        for text, bar, peers in (
            ("Triton", 1.3, ("triton",)),
            ("the better grpcio echo", 2.0, ("grpcio-threads", "grpcio-aio")),
            ("MLServer", 6.0, ("mlserver",)),
        )
    ),
    *(
        Bar(f"grpc-mlp, {wire}: Triton's p99 by inferd's", 1.0, p99_of_triton(wire))
        for wire in ("h2load", "grpc.aio")
    ),
    Bar("grpc-16mb, tritonclient: time over gRPC by time over HTTP", 1.3,
        tensor_over_grpc(GRPC_CLIENT, HTTP_CLIENT), most=True),
    Bar("grpc-16mb, h2load by bare sockets: time over gRPC by time over HTTP", 1.3,
        tensor_over_grpc(GRPC_H2LOAD, HTTP_SOCKETS), most=True),
    Bar("grpc-slow-streams: p50 of others with them by without", 1.1,
        p50_beside_slow_streams, most=True),
)  # fmt: skip


def bar_lines(records: Sequence[Record]) -> list[str]:
    """Each bar that was measured, and whether it was reached."""
    found = [(bar, bar.figure(records)) for bar in BARS]
    lines = [
        f"| {bar.text} | {'at most' if bar.most else 'at least'} {bar.bar:g} | {value:.2f} | "
        f"{'yes' if bar.reached(value) else 'NO'} |"
        for bar, value in found
        if value is not None
    ]
    if not lines:
        return []
    return ["## bars", "", "| what | bar | found | reached |", "|---|--:|--:|---|", *lines, ""]
