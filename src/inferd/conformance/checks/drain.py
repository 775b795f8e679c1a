"""The end of a server, of which SIGTERM tells it: what is in flight is answered.

Only for a server whose process is named with --pid, and last: there is no server behind it.
"""

import os
import signal
import threading
import time

from inferd.conformance.check import Mismatch, Skipped, check, holds, same
from inferd.conformance.wire import TIMEOUT_S, Wire

AREA = "drain"
RUNS_MS = 1500


@check(AREA, models=("slow",), wires=("http",))
def what_is_in_flight_is_answered(wire: Wire) -> None:
    pid = wire.target.pid
    if not pid:
        raise Skipped("no --pid of the server, which this ends")
    ends: list[object] = []

    def ask() -> None:
        with Wire("http", wire.target) as own:
            try:
                ends.append(own.infer("slow", own.one(RUNS_MS)).as_numpy("OUTPUT0").shape)
            except Exception as error:
                ends.append(f"{type(error).__name__}: {error}")

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(RUNS_MS / 3000)
    os.kill(pid, signal.SIGTERM)
    asking.join()
    same(f"a request of {RUNS_MS} ms, with SIGTERM in the middle", ends, [(1, 1)])
    deadline = time.monotonic() + 2 * TIMEOUT_S
    while _listens(wire):
        if time.monotonic() > deadline:
            raise Mismatch("the server behind its drain", "an end", "it still answers")
        time.sleep(0.1)
    holds("the server", not _listens(wire), "an end", "it answers")


def _listens(wire: Wire) -> bool:
    try:
        return wire.http("GET", "/v2/health/ready").status == 200
    except OSError:
        return False
