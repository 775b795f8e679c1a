"""The express lane: requests that come in one turn of the event loop for one model are decoded and
answered together. A model that would run them at once does, without their ever being queued; in the
queue of another one they wait as one.

Most of what a small model's request costs is Python's price for each step, and together they pay it
once. Only the plainest requests ride here (one row, one input of fixed shape, nothing asked for
beside); any other, and any that fails on the way, takes the ordinary path by itself, which finds
the error and says it. How a protocol writes its plainest requests, a RiderForm knows; how it
answers them, a Rider.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import orjson

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import BF16, BYTES, FP16
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Array, TensorSpec

_log = logging.getLogger("inferd.express")

LOOKS = 2
"""How often to look for more riders before departing. A look waits for nothing: it lets the loop
read what its sockets hold by now. Answers in fewer, fuller batches leave the clients' side of the
machine free to work meanwhile; a rider who was alone last time is not kept for others."""

MAX_BODY_BYTES = 64 * 1024
MAX_ELEMENTS = 16 * 1024
"""Longer bodies and larger outputs cost more to decode and encode than the lane saves."""

MAX_LANES = 4096

KINDS = ("float", "int")
"""Of datatypes whose values are plain numbers in JSON."""


class Rider(Protocol):
    """A request on its way through the lane."""

    @property
    def body(self) -> bytes:
        """The request."""

    @property
    def left(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def answer(self, body: bytes) -> None:
        """Send the answer that a RiderForm has written."""

    def wait(self, party: "Party") -> None:
        """Wait with others; the party is to be told when the client leaves."""

    def walk(self) -> None:
        """Take the ordinary path."""

    def fail(self) -> None:
        """Answer with an error: the lane itself has failed, and has logged why."""


class RiderForm(Protocol):
    """How a protocol writes the plainest requests for one model, and their answers."""

    def row(self, body: bytes) -> object:
        """The one row of a request; raises ValueError for any other request, of which the ordinary
        path will know what to say."""

    def merge(self, rows: list[object]) -> Array:
        """Rows as the model's input; raises ValueError, OverflowError where one does not fit."""

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """An answer for each row of the outputs, as the ordinary path would write it."""


FormOf = Callable[[ServedModel], RiderForm | None]
"""The form for a model whose requests `is_plain`; None where the protocol has none."""


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
            _walk(waiting)
            return
        if served is not self._served:  # looked at once for each loaded model
            self._served = served
            self._form = self._form_of(served) if is_plain(served) else None
        form = self._form
        if form is None or served.traced or self._plane.draining:
            _walk(waiting)
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
                _walk([rider])
                continue
            riders.append(rider)
        limit = served.description.max_batch_size
        for start in range(0, len(riders), limit):
            end = start + limit
            self._run(served, form, riders[start:end], rows[start:end])

    def _run(
        self, served: ServedModel, form: RiderForm, group: list[Rider], rows: list[object]
    ) -> None:
        """Run rows at once or have them wait together, and answer each; or send them the ordinary
        way."""
        try:
            merged = form.merge(rows)
        except (ValueError, OverflowError):
            _walk(group)
            return
        outputs = served.run_now([merged], len(rows), self._arrival_ns)
        if outputs is not None:
            _answer_all(form, group, outputs)
            return

        def done(result: InferenceResponse | InferdError) -> None:
            try:
                if isinstance(result, InferdError):
                    _walk(group)
                else:
                    _answer_all(form, group, [tensor.array for tensor in result.outputs])
            except Exception:
                _log.exception("express lane failed", extra={"model": self.name})
                for rider in group:
                    rider.fail()

        if len(group) == 1:  # nobody to share with; by itself it can also be cancelled
            _walk(group)
            return
        item = served.submit_riders([merged], len(rows), self._arrival_ns, done)
        if item is None:
            _walk(group)
            return
        party = Party(item, len(group))
        for rider in group:
            rider.wait(party)


def _walk(riders: list[Rider]) -> None:
    for rider in riders:
        if not rider.left:
            rider.walk()


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


def is_plain(served: ServedModel) -> bool:
    """Whether a model's requests can be plain ones: one small input of numbers, small outputs."""
    inputs, outputs = served.description.inputs, served.outputs
    return (
        served.description.max_batch_size > 0
        and served.mergeable
        and len(inputs) == 1
        and not inputs[0].any_shape
        and not served.signature.streams
        and all(spec.datatype.kind in KINDS for spec in inputs)
        and all(dim > 0 for dim in inputs[0].shape[1:])
        and not any(spec.datatype in (BYTES, FP16, BF16) for spec in (*inputs, *outputs))
        and all(spec.any_shape or _is_small(spec.shape[1:]) for spec in outputs)
    )


def _is_small(shape: tuple[int, ...]) -> bool:
    return min(shape, default=1) > 0 and math.prod(shape) <= MAX_ELEMENTS


def _answer_all(form: RiderForm, group: list[Rider], outputs: list[Array]) -> None:
    for rider, body in zip(group, form.answers(outputs), strict=True):
        rider.answer(body)


def merge_numbers(rows: list[object], spec: TensorSpec, flat: bool) -> Array:
    """Rows of numbers as JSON has them; in `flat` ones they stand in one list, whatever the shape.
    Raises ValueError, OverflowError."""
    merged = np.array(rows, spec.datatype.dtype)
    shape = len(rows), *spec.shape[1:]
    if flat:
        merged = merged.reshape(shape)
    if merged.shape != shape:
        raise ValueError
    return merged


def row_texts(output: Array) -> list[bytes]:
    """The numbers of each row as JSON has them between brackets, whatever the shape of a row."""
    flat = np.ascontiguousarray(output).reshape(len(output), -1)
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
