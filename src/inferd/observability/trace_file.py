"""Traces in files, as Triton writes them: JSON arrays in which each trace has an object that says
whose it is, and one with its times.

Files are written on a thread of their own; a failure is logged, and costs the traces.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from inferd.observability.tracing import Trace

_log = logging.getLogger("inferd.traces")


class TraceFile:
    """A TraceSink: one array at `path`, which `close` ends, others at `path.0`, `path.1`, ..."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._begun = False
        self._number = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inferd-traces")

    def write(self, traces: list[Trace], apart: bool) -> None:
        """See TraceSink."""
        self._thread.submit(self._try, self._write_apart if apart else self._append, traces)

    def close(self) -> None:
        """End the file; blocks until all is written."""
        self._thread.submit(self._try, self._end)
        self._thread.shutdown()

    def _try(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # whatever it is, nobody else would hear of it
            _log.error("traces are lost", extra={"file": self.name, "reason": str(error)})

    def _write_apart(self, traces: list[Trace]) -> None:
        path = self._path.with_name(f"{self._path.name}.{self._number}")
        self._number += 1
        path.write_bytes(b"[%b]\n" % trace_lines(traces))

    def _append(self, traces: list[Trace]) -> None:
        lines = trace_lines(traces)
        with self._path.open("ab" if self._begun else "wb") as file:
            file.write((b",\n" if self._begun else b"[") + lines)
        self._begun = True

    def _end(self) -> None:
        if self._begun:
            with self._path.open("ab") as file:
                file.write(b"]\n")


def trace_lines(traces: list[Trace]) -> bytes:
    """What stands between the brackets: two objects for each trace, a line each."""
    return b",\n".join(orjson.dumps(part) for trace in traces for part in _objects(trace))


def _objects(trace: Trace) -> Iterator[dict[str, Any]]:
    yield {
        "id": trace.id, "model_name": trace.model, "model_version": trace.version,
        "request_id": trace.request_id,
    }  # fmt: skip
    times = [("REQUEST_START", trace.came_ns), ("QUEUE_START", trace.came_ns)]
    if trace.compute is not None:
        names = ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")
        times += zip(names, trace.compute, strict=True)
    times.append(("REQUEST_END", trace.ended_ns))
    yield {"id": trace.id, "timestamps": [{"name": name, "ns": ns} for name, ns in times]}
