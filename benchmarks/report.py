"""From records to the table that people read: medians over rounds, ratios against each peer, what
inferd was to reach, and in the end what it loses.
"""

from collections.abc import Sequence

from benchmarks.bars import bar_lines, best_offline, best_served, groups, median
from benchmarks.slow_streams import CONNECTIONS, PAUSE_SECONDS
from benchmarks.suite import Record, select
from benchmarks.workloads import GRPC_MLP, GRPC_TENSOR, OFFLINE, OWN, TENSOR

PEAKS = ("mlp", "python-mlp", "encoder", "encoder-openvino", "wide", "trees", GRPC_MLP.name)


def markdown(records: Sequence[Record], heading: str, machine: Sequence[str]) -> str:
    """The whole report."""
    parts = [f"# {heading}\n", *[f"* {line}" for line in machine], ""]
    parts += ["Medians over the rounds; the raw figures of each round are in the JSON file beside",
              "this one. A ratio is inferd's requests/s by the peer's.", ""]  # fmt: skip
    for workload in PEAKS:
        parts += load_table(records, workload)
    parts += tensor_table(records, TENSOR.name) + tensor_table(records, GRPC_TENSOR.name)
    parts += own_best_table(records) + offline_table(records) + start_table(records)
    parts += idle_lines(records) + slow_stream_lines(records) + overload_lines(records)
    parts += bar_lines(records) + losses(records)
    return "\n".join(parts) + "\n"


def load_table(records: Sequence[Record], workload: str) -> list[str]:
    """Requests/s, percentiles and ratio of every server on one workload."""
    loads = groups(select(records, "load", workload))
    if not loads:
        return []
    lines = [f"## {workload}", "",
             "| connections | server | form | requests/s | p50 ms | p99 ms | errors | inferd is |",
             "|--:|---|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for (server, wire, count), rounds in sorted(loads.items(), key=lambda e: e[0][2]):
        ours = beside(loads, wire if server != "inferd" else "", count)
        rate = median(rounds, "requests_per_second")
        ratio = ""
        if ours is not None and ours is not rounds and rate:
            factor = median(ours, "requests_per_second") / rate
            first = ours[0].wire
            ratio = f"{factor:.2f} x" if server != "inferd" else f"{1 / factor:.2f} x its {first}"
        errors = sum(r.figures["bad_status"] + r.figures["socket_errors"] for r in rounds)
        lines.append(
            f"| {count} | {server} | {wire} | {rate:,.0f} | {median(rounds, 'p50_ms'):.3f} | "
            f"{median(rounds, 'p99_ms'):.3f} | {errors} | {ratio} |"
        )
    apart = {key: median(rounds, "apart")
             for key, rounds in groups(select(records, "answers", workload)).items()}  # fmt: skip
    platforms = {r.server: r.figures["platform"] for r in select(records, "answers", workload)}
    for server in [s for s in platforms if workload == "encoder-openvino"]:
        worst = max(value for key, value in apart.items() if key[0] == server)
        lines.append(f"\n{server} ran on {platforms[server]}; answers up to {worst:.2%} of the "
                     "largest value off ONNX Runtime's in float32.")  # fmt: skip
    return [*lines, ""]


def beside(
    loads: dict[tuple[str, str, int], list[Record]], wire: str, count: int
) -> list[Record] | None:
    """inferd's rounds at so many connections, in that form of request if it was asked in it."""
    ours = {key[1]: rounds for key, rounds in loads.items() if key[::2] == ("inferd", count)}
    return ours.get(wire) or next(iter(ours.values()), None)


def tensor_table(records: Sequence[Record], workload: str) -> list[str]:
    """A large tensor into a worker and back."""
    lines = []
    for (_, wire, count), rounds in groups(select(records, "tensor", workload)).items():
        lines.append(f"| {wire} | {count} | {median(rounds, 'requests_per_second'):,.0f} | "
                     f"{median(rounds, 'gb_per_second'):.2f} |")  # fmt: skip
    if lines:
        lines = [f"## {workload}", "", "| form | connections | requests/s | GB/s each way |",
                 "|---|--:|--:|--:|", *lines, ""]  # fmt: skip
    worker = select(records, "worker", workload)
    if worker:
        lines += [f"Without HTTP: {median(worker, 'in_gb_per_second'):.2f} GB/s in, "
                  f"{median(worker, 'out_gb_per_second'):.2f} GB/s out, there and back "
                  f"{median(worker, 'both_gb_per_second_each_way'):.2f} GB/s each way; one copy "
                  f"alone {median(worker, 'copy_gb_per_second'):.1f} GB/s. Of the model's input "
                  f"{median(worker, 'input_outside_shared_memory_bytes'):.0f} bytes lay outside "
                  "shared memory.", ""]  # fmt: skip
    return lines


def own_best_table(records: Sequence[Record]) -> list[str]:
    """Each framework served, beside its own best without a server."""
    found = {
        name: (best_offline(records, name), best_served(records, name))
        for name in OWN
        if select(records, "offline", name)
    }
    if not found:
        return []
    lines = ["## each framework against itself", "",
             "Rows/s.", "",
             "| framework | offline | batch | served | rows a request | connections | share |",
             "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name, ((batch, best), (count, served)) in found.items():
        lines.append(f"| {name.removeprefix(OFFLINE)} | {best:,.0f} | {batch} | {served:,.0f} | "
                     f"{OWN[name].request_rows} | {count} | {served / best:.1%} |")  # fmt: skip
    return [*lines, ""]


def offline_table(records: Sequence[Record]) -> list[str]:
    """The encoder without a server, and what of it is served."""
    by_size = groups(select(records, "offline", "encoder"))
    if not by_size:
        return []
    rates = {key[2]: median(rounds, "items_per_second") for key, rounds in by_size.items()}
    best = max(rates, key=lambda size: rates[size])
    sizes = ", ".join(f"{size}: {rate:.1f}" for size, rate in rates.items())
    lines = ["## encoder, ONNX Runtime offline", "", f"Items/s by batch size: {sizes}.", ""]
    for (server, _, count), rounds in groups(select(records, "load", "encoder")).items():
        if server == "inferd":
            share = median(rounds, "requests_per_second") / rates[best]
            lines.append(f"* served at {count} connections: {share:.1%} of the best (batch {best})")
    return [*lines, ""]


def start_table(records: Sequence[Record]) -> list[str]:
    """Start to first right answer, and memory, with the MLP."""
    starts = groups(select(records, "start", "mlp"))
    if not starts:
        return []
    head = "| server | first right answer, s | RSS, MiB | PSS, MiB |"
    lines = ["## start and memory, mlp", "", head, "|---|--:|--:|--:|"]
    lines += [
        f"| {key[0]} | {median(rounds, 'seconds'):.2f} | {median(rounds, 'rss'):.0f} | "
        f"{median(rounds, 'pss'):.0f} |"
        for key, rounds in starts.items()
    ]
    return [*lines, ""]


def idle_lines(records: Sequence[Record]) -> list[str]:
    """What idle connections cost."""
    idle = select(records, "idle")
    if not idle:
        return []
    grown = median(idle, "rss_with") - median(idle, "rss_before")
    return ["## idle connections", "",
            f"{idle[0].figures['connections']:,} idle keep-alive connections: {grown:.1f} MiB "
            f"more; p50 of an active one {median(idle, 'p50_before_ms'):.3f} ms before, "
            f"{median(idle, 'p50_with_ms'):.3f} ms with them.", ""]  # fmt: skip


def slow_stream_lines(records: Sequence[Record]) -> list[str]:
    """What streams cost that are read slowly."""
    slow = select(records, "slow-streams")
    if not slow:
        return []
    before, grown, kept = (median(slow, f"pss_{when}") for when in ("before", "with", "after"))
    return ["## streams that are read slowly", "",
            f"{slow[0].figures['streams']:,} streams on {CONNECTIONS} connections, each read once "
            f"in {PAUSE_SECONDS:g} s, {median(slow, 'failed'):,.0f} of which failed: "
            f"{before:.1f} MiB before, {grown:.1f} with them, {kept:.1f} after; p50 of "
            f"another client {median(slow, 'p50_before_ms'):.3f} ms before, "
            f"{median(slow, 'p50_with_ms'):.3f} ms with them, "
            f"{median(slow, 'p50_after_ms'):.3f} ms after.", ""]  # fmt: skip


def overload_lines(records: Sequence[Record]) -> list[str]:
    """What gets through at twice the load."""
    over = select(records, "overload")
    if not over:
        return []
    peak, goodput = median(over, "peak"), median(over, "goodput")
    return ["## overload", "",
            f"Peak {peak:,.0f} answers/s; offered {median(over, 'offered'):,.0f}/s at a fixed "
            f"rate and measured once the queue was full: {goodput:,.0f}/s answered "
            f"({goodput / peak:.1%} of the peak), "
            f"{median(over, 'refused'):,.0f}/s refused with a p50 of "
            f"{median(over, 'refused_p50_ms'):.1f} ms.", ""]  # fmt: skip


def losses(records: Sequence[Record]) -> list[str]:
    """Every figure in which a peer was better."""
    lines = []
    for workload in PEAKS:
        loads = groups(select(records, "load", workload))
        for (server, wire, count), rounds in loads.items():
            ours = beside(loads, wire, count)
            if server.startswith("inferd") or ours is None:
                continue
            for figure, better in (("requests_per_second", max), ("p50_ms", min), ("p99_ms", min)):
                mine, theirs = median(ours, figure), median(rounds, figure)
                if better(mine, theirs) != mine:
                    lines.append(f"* {workload}, {count} connections, {figure}: {server} ({wire}) "
                                 f"{theirs:,.3f}, inferd {mine:,.3f}")  # fmt: skip
    return ["## what inferd loses", "", *(lines or ["Nothing measured here."]), ""]
