"""The express lane: requests that come in one turn of the event loop for one model are decoded and
answered together. A model that would run them at once does, without their ever being queued; in the
queue of another one they wait as one.

Most of what a small model's request costs is Python's price for each step, and together they pay it
once. Only the plainest requests ride here (one row, one input of fixed shape, JSON both ways); any
other, and any that fails on the way, takes the ordinary path by itself, which finds the error and
says it. How a protocol writes its plainest requests, a RiderForm knows.
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
from inferd.protocols.depth import MAX_DEPTH
from inferd.protocols.http.compression import answer_encoding, compress
from inferd.protocols.http.connection import Exchange, HttpConnection
from inferd.protocols.http.request import HttpRequest
from inferd.protocols.http.request_id import request_id
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import BF16, BYTES, FP16
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Array

_log = logging.getLogger("inferd.http")

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

Ordinary = Callable[[HttpConnection, HttpRequest, str, str], Exchange | None]
Rider = tuple[HttpConnection, HttpRequest]


class RiderForm(Protocol):
    """How a protocol writes the plainest requests for one model, and their answers. In a `flat` one
    a row's numbers stand in one list, whatever the input's shape."""

    flat: bool

    def row(self, body: bytes) -> object:
        """The one row of a request, as lists of numbers; raises ValueError for any other request,
        of which the ordinary path will know what to say."""

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """An answer for each row of the outputs, as the ordinary path would write it."""


FormOf = Callable[[ServedModel], RiderForm | None]
"""The form for a model whose requests `is_plain`; None where the protocol has none."""


class ExpressLane:
    """Collects the requests of one turn for one model name and version."""

    def __init__(
        self, plane: DataPlane, name: str, version: str, ordinary: Ordinary, form_of: FormOf
    ) -> None:
        self._plane = plane
        self._name = name
        self._version = version
        self._ordinary = ordinary
        self._form_of = form_of
        self._waiting: list[Rider] = []
        self._last = 0
        self._arrival_ns = 0
        self._served: ServedModel | None = None
        self._form: RiderForm | None = None

    def add(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Take a request until the end of the loop's turn; a Handler."""
        if not self._waiting:
            self._arrival_ns = time.perf_counter_ns()
            asyncio.get_running_loop().call_soon(self._board, 0, 0)
        self._waiting.append((connection, request))

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
            _log.exception("express lane failed", extra={"model": self._name})
            for connection, request in waiting:
                connection.fail(request)

    def _ride(self, waiting: list[Rider]) -> None:
        try:
            served = self._plane.served(self._name, self._version)
        except InferdError:
            self._send_ordinary(waiting)
            return
        if served is not self._served:  # looked at once for each loaded model
            self._served = served
            self._form = self._form_of(served) if is_plain(served) else None
        form = self._form
        if form is None or self._plane.draining:
            self._send_ordinary(waiting)
            return
        riders, rows = [], []
        for rider in waiting:
            body = rider[1].body
            try:
                if len(body) > MAX_BODY_BYTES or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
                    raise ValueError
                rows.append(form.row(body))
            except (ValueError, RecursionError):
                self._send_ordinary([rider])
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
        spec = served.description.inputs[0]
        try:
            merged = np.array(rows, spec.datatype.dtype)
            shape = len(rows), *spec.shape[1:]
            if form.flat:
                merged = merged.reshape(shape)
            fits = merged.shape == shape
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            self._send_ordinary(group)
            return
        outputs = served.run_now([merged], len(rows), self._arrival_ns)
        if outputs is not None:
            _answer_all(form, group, outputs)
            return

        def done(result: InferenceResponse | InferdError) -> None:
            try:
                if isinstance(result, InferdError):
                    self._send_ordinary(group)
                else:
                    _answer_all(form, group, [tensor.array for tensor in result.outputs])
            except Exception:
                _log.exception("express lane failed", extra={"model": self._name})
                for connection, request in group:
                    connection.fail(request)

        if len(group) == 1:  # nobody to share with; by itself it can also be cancelled
            self._send_ordinary(group)
            return
        item = served.submit_riders([merged], len(rows), self._arrival_ns, done)
        if item is None:
            self._send_ordinary(group)
            return
        party = Party(item, len(group))
        for connection, request in group:
            connection.adopt(request, party)

    def _send_ordinary(self, riders: list[Rider]) -> None:
        for connection, request in riders:
            if not connection.closed:
                exchange = self._ordinary(connection, request, self._name, self._version)
                connection.adopt(request, exchange)


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

    def __init__(self, plane: DataPlane, ordinary: Ordinary, form_of: FormOf) -> None:
        self._plane = plane
        self._ordinary = ordinary
        self._form_of = form_of
        self._lanes: dict[tuple[str, str], ExpressLane] = {}

    def lane(self, name: str, version: str) -> ExpressLane:
        """The one for a model."""
        lane = self._lanes.get((name, version))
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                self._lanes.clear()
            lane = ExpressLane(self._plane, name, version, self._ordinary, self._form_of)
            self._lanes[name, version] = lane
        return lane


def is_plain(served: ServedModel) -> bool:
    """Whether a model's requests can be plain ones: one small input of numbers, small outputs."""
    inputs, outputs = served.description.inputs, served.outputs
    return (
        served.description.max_batch_size > 0
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
    for (connection, request), body in zip(group, form.answers(outputs), strict=True):
        _answer(connection, request, body)


def _answer(connection: HttpConnection, request: HttpRequest, body: bytes) -> None:
    fields = request.head.fields
    identity = request_id(fields.get(b"x-request-id"))
    encoding = answer_encoding(fields.get(b"accept-encoding"), len(body))
    if not encoding:
        connection.respond_tensors(body, identity)
        return
    headers = [(b"x-request-id", identity), (b"content-encoding", encoding.encode())]
    connection.respond(200, compress(body, encoding), headers=headers)


def row_texts(output: Array) -> list[bytes]:
    """The numbers of each row as JSON has them between brackets, whatever the shape of a row."""
    flat = np.ascontiguousarray(output).reshape(len(output), -1)
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
