"""The express lane: requests that come in one turn of the event loop for one model are decoded and
answered together. A model that would run them at once does, without their ever being queued; in the
queue of another one they wait as one.

Most of what a small model's request costs is Python's price for each step, and together they pay it
once. Only the plainest requests ride here (one row, one input of fixed shape, nothing asked for
beside); any other, and any that fails on the way, takes the ordinary path by itself, which finds
the error and says it. How a protocol writes its plainest requests, a RiderForm knows; how it
answers them, a Rider.

Requests of sequences ride, too, with nothing said beside but their step. Where they cannot run at
once each waits behind those of its own sequence, and is answered with whom it has run.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError
from inferd.protocols.express.plainness import is_plain
from inferd.protocols.express.rider import (
    MAX_BODY_BYTES,
    Rider,
    RiderForm,
    StepForm,
    answer_all,
    walk,
)
from inferd.protocols.express.sequence_riders import SequenceRiders
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceResponse

_log = logging.getLogger("inferd.express")

LOOKS = 2
"""How often to look for more riders before departing. A look waits for nothing: it lets the loop
read what its sockets hold by now. Answers in fewer, fuller batches leave the clients' side of the
machine free to work meanwhile; a rider who was alone last time is not kept for others."""

MAX_LANES = 4096

FormOf = Callable[[ServedModel], RiderForm | StepForm | None]
"""The form for a model that `is_plain`, a StepForm for one of sequences; None where the protocol
has none."""


class ExpressLane:
    """Collects the requests of one turn for one model name and version."""

    def __init__(self, plane: DataPlane, name: str, version: str, form_of: FormOf) -> None:
        self.name = name
        self.version = version
        self._plane = plane
        self._form_of = form_of
        self._waiting: list[Rider] = []
        self._last = 0
        self._arrival_ns = 0
        self._served: ServedModel | None = None
        self._form: RiderForm | None = None
        self._sequences: SequenceRiders | None = None

    def add(self, rider: Rider) -> None:
        """Take a request until the end of the loop's turn."""
        if not self._waiting:
            self._arrival_ns = time.perf_counter_ns()
            asyncio.get_running_loop().call_soon(self._board, 0, 0)
        self._waiting.append(rider)

    def _board(self, before: int, looks: int) -> None:
        here = len(self._waiting)
        if here == before or looks >= LOOKS or here == self._last == 1:
            self._last = here
            self._depart()
        else:
            asyncio.get_running_loop().call_soon(self._board, here, looks + 1)

    def _depart(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._ride(waiting)
        except Exception:
            # Not one of the ways in which a request can fail: but no rider may be left standing.
            _log.exception("express lane failed", extra={"model": self.name})
            for rider in waiting:
                rider.fail()

    def _ride(self, waiting: list[Rider]) -> None:
        try:
            served = self._plane.served(self.name, self.version)
        except InferdError:
            walk(waiting)
            return
        if served is not self._served:  # looked at once for each loaded model
            self._look_at(served)
        form = self._form
        if form is None or served.traced or self._plane.draining:
            walk(waiting)
            return
        if self._sequences is not None:
            self._sequences.ride(waiting, self._arrival_ns)
            return
        riders, rows = [], []
        for rider in waiting:
            if rider.left:  # nobody would say so again to those who wait with it
                continue
            body = rider.body
            try:
                if len(body) > MAX_BODY_BYTES:
                    raise ValueError
                rows.append(form.row(body))
            except (ValueError, RecursionError):
                walk([rider])
                continue
            riders.append(rider)
        limit = served.description.max_batch_size
        for start in range(0, len(riders), limit):
            end = start + limit
            self._run(served, form, riders[start:end], rows[start:end])

    def _look_at(self, served: ServedModel) -> None:
        self._served = served
        self._form = form = self._form_of(served) if is_plain(served) else None
        sequences = served.sequences
        self._sequences = (
            SequenceRiders(served, sequences, form)
            if sequences is not None and isinstance(form, StepForm)
            else None
        )

    def _run(
        self, served: ServedModel, form: RiderForm, group: list[Rider], rows: list[object]
    ) -> None:
        """Run rows at once or have them wait together, and answer each; or send them the ordinary
        way."""
        try:
            merged = form.merge(rows)
        except (ValueError, OverflowError):
            walk(group)
            return
        outputs = served.run_now([merged], len(rows), self._arrival_ns)
        if outputs is not None:
            answer_all(form, group, outputs)
            return

        def done(result: InferenceResponse | InferdError) -> None:
            try:
                if isinstance(result, InferdError):
                    walk(group)
                else:
                    answer_all(form, group, [tensor.array for tensor in result.outputs])
            except Exception:
                _log.exception("express lane failed", extra={"model": self.name})
                for rider in group:
                    rider.fail()

        if len(group) == 1:  # nobody to share with; by itself it can also be cancelled
            walk(group)
            return
        item = served.submit_riders([merged], len(rows), self._arrival_ns, done)
        if item is None:
            walk(group)
            return
        party = Party(item, len(group))
        for rider in group:
            rider.wait(party)


class Party:
    """Riders who wait as one; an Exchange of each of them. What they wait for is given up when the
    last of them has left."""

    __slots__ = ("_item", "_left")

    def __init__(self, item: QueuedRequest, riders: int) -> None:
        self._item = item
        self._left = riders

    def cancel(self) -> None:
        """One rider's client has left."""
        self._left -= 1
        if not self._left:
            self._item.cancel()


class ExpressLanes:
    """The lanes of one protocol, by name and version."""

    def __init__(self, plane: DataPlane, form_of: FormOf) -> None:
        self._plane = plane
        self._form_of = form_of
        self._lanes: dict[tuple[str, str], ExpressLane] = {}

    def lane(self, name: str, version: str) -> ExpressLane:
        """The one for a model."""
        lane = self._lanes.get((name, version))
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                self._lanes.clear()
            lane = ExpressLane(self._plane, name, version, self._form_of)
            self._lanes[name, version] = lane
        return lane
