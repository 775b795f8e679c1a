"""Load from h2load: gRPC calls with one prepared frame, over a few connections with a few streams
each.

h2load reads no trailers: a call that fails is to it an answer with status 200. But such an answer
has no data, so the data that came back tells how many calls were answered; that the answers were
right is for the caller to check with a client that reads them.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.calls import INFER, connected
from benchmarks.load import Figures, LoadError

HEADERS = ("content-type: application/grpc", "te: trailers")
CONNECTIONS, STREAMS = 4, 8
PREFIX_BYTES = 5
GRACE_SECONDS = 60


def frame(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, and its length before it."""
    return b"\0" + len(message).to_bytes(PREFIX_BYTES - 1, "big") + message


def require_h2load() -> str:
    """Gives h2load's version, or says how to install it."""
    if shutil.which("h2load") is None:
        raise LoadError(
            "h2load is not installed; on Debian and Ubuntu: apt-get install nghttp2-client"
        )
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def load(
    port: int,
    message: bytes,
    seconds: float,
    connections: int = CONNECTIONS,
    streams: int = STREAMS,
) -> Figures:
    """Keeps so many streams of so many connections busy for a time (whole seconds, at least one)
    with calls of ModelInfer, after one call to see how long an answer is."""
    with connected(port) as call:
        answer_bytes = PREFIX_BYTES + len(call(message, timeout=GRACE_SECONDS))
    duration = max(1, round(seconds))
    with TemporaryDirectory(prefix="inferd-bench-") as name:
        body, log = Path(name, "body"), Path(name, "log")
        body.write_bytes(frame(message))
        flags = ["-t1", f"-c{connections}", f"-m{streams}", f"-D{duration}", f"--data={body}"]
        headers = [flag for header in HEADERS for flag in ("-H", header)]
        done = subprocess.run(
            ["h2load", *flags, *headers, f"--log-file={log}", f"http://127.0.0.1:{port}{INFER}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=duration + GRACE_SECONDS,
        )
        if done.returncode != 0 or not log.exists():
            raise LoadError(f"h2load failed: {done.stderr.strip() or done.stdout.strip()}")
        with log.open() as lines:
            return read_figures(done.stdout, lines, answer_bytes)


def read_figures(printed: str, log: Iterable[str], answer_bytes: int) -> Figures:
    """Reads what h2load printed, and its log: a line a call, with the status and how long it took
    in microseconds. Calls without an answer count as refused."""
    done, failed, errored, timed_out = numbers(
        r"(\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", printed
    )
    (data,) = numbers(r"\((\d+)\) data", printed)
    (rate,) = numbers(r"finished in [^,]+, ([\d.]+) req/s", printed)
    answered = [line.split() for line in log]
    times = [int(taken) / 1000 for _, status, taken in answered if status == "200"]
    if not done or not times:
        raise LoadError(f"nothing was answered: {printed.strip()}")
    good = min(len(times), int(data) // answer_bytes)
    p50, p99 = np.percentile(times, (50, 99))
    return Figures(
        requests_per_second=rate * good / done,
        p50_ms=float(p50),
        p99_ms=float(p99),
        bad_status=int(done - good),
        socket_errors=int(failed + errored + timed_out),
    )


def numbers(pattern: str, text: str) -> list[float]:
    """The numbers of a pattern that must be there."""
    found = re.search(pattern, text)
    if found is None:
        raise LoadError(f"h2load printed something else: {text.strip()}")
    return [float(group) for group in found.groups()]
