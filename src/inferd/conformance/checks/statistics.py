"""The arithmetic of statistics and metrics."""

import time
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from inferd.conformance.check import Skipped, becomes, check, holds, same
from inferd.conformance.wire import TIMEOUT_S, Wire

AREA = "statistics"
NEEDS: dict[str, Any] = {"models": ("add_sub",), "extensions": ("statistics",)}

STEPS = ("queue", "compute_input", "compute_infer", "compute_output")


def _grown(wire: Wire, *rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Statistics before and after requests of so many rows."""
    before = _settled(wire)
    for count in rows:
        wire.infer("add_sub", wire.pair(count))
    count = before["inference_stats"]["success"]["count"] + len(rows)
    becomes("success.count", lambda: _successes(wire), count)
    return before, wire.statistics("add_sub")


def _settled(wire: Wire) -> dict[str, Any]:
    """Statistics that have stood still for a moment: the requests before may not be counted yet."""
    last = wire.statistics("add_sub")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = wire.statistics("add_sub")
        if now == last:
            return now
        last = now
    raise Skipped("others ask add_sub, too")


def _successes(wire: Wire) -> int:
    return int(wire.statistics("add_sub")["inference_stats"]["success"]["count"])


def _refused(wire: Wire) -> None:
    try:
        wire.infer("add_sub", [wire.tensor("INPUT0", np.ones((1, 17), np.float32)), wire.pair()[1]])
    except InferenceServerException:
        return


@check(AREA, **NEEDS)
def rows_and_executions_are_counted(wire: Wire) -> None:
    before, after = _grown(wire, 1, 4, 1)
    same("inference_count", after["inference_count"] - before["inference_count"], 6)
    same("execution_count", after["execution_count"] - before["execution_count"], 3)
    for step in ("success", *STEPS):
        counts = [stats["inference_stats"][step]["count"] for stats in (before, after)]
        same(f"{step}.count", counts[1] - counts[0], 3)


@check(AREA, **NEEDS)
def the_parts_of_a_request_are_no_more_than_the_whole(wire: Wire) -> None:
    before, after = _grown(wire, 1, 2)
    spent = {step: after["inference_stats"][step]["ns"] - before["inference_stats"][step]["ns"]
             for step in ("success", *STEPS)}  # fmt: skip
    parts = sum(spent[step] for step in STEPS)
    holds("ns of queue and compute", 0 < parts <= spent["success"], "0 < parts <= success", spent)


@check(AREA, **NEEDS)
def executions_are_counted_by_batch_size(wire: Wire) -> None:
    def by_size(stats: dict[str, Any], size: int) -> int:
        return sum(int(one["compute_infer"]["count"]) for one in stats["batch_stats"]
                   if one["batch_size"] == size)  # fmt: skip

    before, after = _grown(wire, 3, 3, 5)
    grown = [by_size(after, size) - by_size(before, size) for size in (3, 5)]
    same("executions of 3 and of 5 rows", grown, [2, 1])


@check(AREA, **NEEDS)
def a_request_that_is_refused_counts_no_rows(wire: Wire) -> None:
    before = _settled(wire)
    _refused(wire)
    after = wire.statistics("add_sub")
    same("inference_count", after["inference_count"] - before["inference_count"], 0)


@check(AREA, extensions=("statistics",))
def statistics_of_an_unknown_model_are_refused(wire: Wire) -> None:
    try:
        wire.client.get_inference_statistics("no_such_model")
    except InferenceServerException:
        return
    same("statistics of no_such_model", "an answer", "an error")


@check(AREA, models=("add_sub",))
def metrics_count_as_statistics_do(wire: Wire) -> None:
    def counted() -> list[float]:
        found = wire.metrics()
        names = ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count")
        values = {
            name: value for line, value in found.items() for name in names
            if line.startswith(name + "{") and '"add_sub"' in line
        }  # fmt: skip
        if len(values) < len(names):
            raise Skipped("no nv_inference_ metrics")
        return [values[name] for name in names]

    before = counted()
    _grown(wire, 1, 4)
    becomes(
        "requests, rows and executions of two requests of 1 and 4 rows",
        lambda: [now - then for now, then in zip(counted(), before, strict=True)], [2, 5, 2],
    )  # fmt: skip
