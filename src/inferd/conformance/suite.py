"""Runs the checks of the table against one server, in order, and says how each ended."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

from tritonclient.utils import InferenceServerException

from inferd.conformance.check import CHECKS, Check, Mismatch, Skipped
from inferd.conformance.checks import AREAS
from inferd.conformance.wire import Target, Wire

Outcome = Literal["passed", "failed", "skipped"]


class Ended(NamedTuple):
    """How a check ended; `reason` is why it was skipped, the rest what a failure was about."""

    area: str
    name: str
    wire: str
    outcome: Outcome
    seconds: float
    reason: str = ""
    asked: str = ""
    expected: str = ""
    got: str = ""


class Server(NamedTuple):
    """What a server says before it is checked."""

    name: str
    version: str
    extensions: frozenset[str]
    ready: frozenset[str]


class Unreachable(Exception):
    """Nobody there speaks the protocol; the message says what was tried."""


def look(target: Target) -> Server:
    """Ask a server what it is; raises Unreachable."""
    try:
        with Wire("http", target) as wire:
            said = wire.metadata()
            name, version = said["name"], said["version"]
            ready = frozenset(_ready(wire))
    except (OSError, InferenceServerException, ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"no server of the V2 protocol at {target.url}: {error!r}") from error
    return Server(name, version, frozenset(said.get("extensions", ())), ready)


def _ready(wire: Wire) -> Iterator[str]:
    """The models that are; a server without an index is asked for each that a check needs."""
    try:
        index = wire.index()
    except InferenceServerException:
        needed = {model for check in CHECKS for model in check.models}
        yield from (model for model in needed if wire.client.is_model_ready(model))
    else:
        yield from (line["name"] for line in index if line.get("state") == "READY")


def chosen(areas: Collection[str] = (), without: Collection[str] = ()) -> list[Check]:
    """The checks of these areas, of all without one, area by area; but for those that have one of
    the texts `without` in their name."""
    order = {area: place for place, area in enumerate(AREAS)}
    found = [
        check for check in CHECKS
        if (not areas or check.area in areas) and not any(text in check.name for text in without)
    ]  # fmt: skip
    return sorted(found, key=lambda check: order[check.area])


def run(
    target: Target, server: Server, checks: Sequence[Check],
    began: Callable[[Check, str], None] = lambda check, wire: None,
) -> Iterator[Ended]:  # fmt: skip
    """Run the checks; `began` is told of each before it runs."""
    with ExitStack() as open_wires:
        wires = {"http": open_wires.enter_context(Wire("http", target))}
        if target.grpc:
            wires["grpc"] = open_wires.enter_context(Wire("grpc", target))
        gone = ""
        for check in checks:
            for name in check.wires:
                began(check, name)
                if gone or name not in wires:
                    why = gone or "no --grpc HOST:PORT"
                    yield Ended(check.area, check.name, name, "skipped", 0.0, why)
                    continue
                ended = _ended(check, wires[name], server)
                if ended.outcome == "failed" and _is_gone(wires["http"]):
                    gone = f"there is no server since '{check.name}'"
                yield ended


def _is_gone(wire: Wire) -> bool:
    try:
        wire.http("GET", "/v2/health/live")
    except OSError:
        return True
    return False


def _ended(check: Check, wire: Wire, server: Server) -> Ended:
    start = time.perf_counter()
    where = check.area, check.name, wire.name

    def end(outcome: Outcome, *words: str) -> Ended:
        return Ended(*where, outcome, round(time.perf_counter() - start, 3), *words)

    missing = [name for name in check.extensions if name not in server.extensions]
    if missing:
        return end("skipped", f"the server does not announce {', '.join(missing)}")
    missing = [name for name in check.models if name not in server.ready]
    if missing:
        return end("skipped", f"the server has no model {', '.join(missing)} that is ready")
    try:
        check.run(wire, *check.case)
    except Skipped as reason:
        return end("skipped", str(reason))
    except Mismatch as wrong:
        return end("failed", "", wrong.asked, wrong.expected, wrong.got)
    except Exception as error:  # a client that cannot go on is a failure as well
        status = error.status() if isinstance(error, InferenceServerException) else ""
        text = f"{type(error).__name__} {status or ''}: {error}"
        return end("failed", "", check.name, "an answer", text[:500])
    return end("passed")
