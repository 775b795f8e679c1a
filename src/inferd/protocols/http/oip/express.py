"""The express lane: requests that come in one turn of the event loop for one model are decoded and
answered together. A model that would run them at once does, without their ever being queued; in the
queue of another one they wait as one.

Most of what a small model's request costs is Python's price for each step, and together they pay it
once. Only the plainest requests ride here (one row, one input of fixed shape, JSON both ways); any
other, and any that fails on the way, takes the ordinary path by itself (`infer.py`), which finds
the error and says it.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable

import msgspec
import numpy as np
import orjson

from inferd.errors import InferdError
from inferd.protocols.depth import MAX_DEPTH
from inferd.protocols.http.compression import MIN_COMPRESS_BYTES, choose_encoding, compress
from inferd.protocols.http.connection import Exchange, HttpConnection
from inferd.protocols.http.oip.response_codec import single_row_head
from inferd.protocols.http.request import HttpRequest
from inferd.protocols.http.request_id import request_id
from inferd.schemas.oip import FloatRequest, InferRequest, IntRequest
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

_DECODERS: dict[str, msgspec.json.Decoder[InferRequest]] = {
    "float": msgspec.json.Decoder(FloatRequest),
    "int": msgspec.json.Decoder(IntRequest),
}
"""By kind of datatype; they refuse values of another kind, which have their say elsewhere."""

Ordinary = Callable[[HttpConnection, HttpRequest, str, str], Exchange]


class ExpressLane:
    """Collects the requests of one turn for one model name and version."""

    def __init__(self, plane: DataPlane, name: str, version: str, ordinary: Ordinary) -> None:
        self._plane = plane
        self._name = name
        self._version = version
        self._ordinary = ordinary
        self._waiting: list[tuple[HttpConnection, HttpRequest]] = []
        self._last = 0
        self._arrival_ns = 0
        self._shape: list[int] = []
        self._served: ServedModel | None = None

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

    def _ride(self, waiting: list[tuple[HttpConnection, HttpRequest]]) -> None:
        try:
            served = self._plane.served(self._name, self._version)
        except InferdError:
            served = None
        if served is None or self._plane.draining or not self._fits(served):
            self._send_ordinary(waiting)
            return
        spec = served.description.inputs[0]
        name, datatype, shape = spec.name, spec.datatype.name, self._shape
        decode = _DECODERS[spec.datatype.kind].decode
        riders, rows = [], []
        for entry in waiting:
            body = entry[1].body
            try:
                if len(body) > MAX_BODY_BYTES or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
                    raise ValueError
                wire = decode(body)
                (only,) = wire.inputs
            except (ValueError, RecursionError):
                self._send_ordinary([entry])
                continue
            if (
                only.name == name
                and only.datatype == datatype
                and only.shape == shape
                and not (wire.id or wire.parameters or wire.outputs or only.parameters)
            ):
                riders.append(entry)
                rows.append(only.data)
            else:
                self._send_ordinary([entry])
        limit = served.description.max_batch_size
        for start in range(0, len(riders), limit):
            self._run(served, riders[start : start + limit], rows[start : start + limit])

    def _fits(self, served: ServedModel) -> bool:
        """Whether the model's requests can be plain ones; looked at once for each loaded model."""
        if served is self._served:
            return bool(self._shape)
        self._served = served
        self._shape = []
        inputs, outputs = served.description.inputs, served.outputs
        if (
            served.description.max_batch_size > 0
            and len(inputs) == 1
            and inputs[0].datatype.kind in _DECODERS
            and not any(spec.datatype in (FP16, BF16) for spec in inputs)
            and all(dim > 0 for dim in inputs[0].shape[1:])
            and not any(spec.datatype in (BYTES, FP16, BF16) for spec in outputs)
            and all(spec.any_shape or _is_small(spec.shape[1:]) for spec in outputs)
        ):
            self._shape = [1, *inputs[0].shape[1:]]
        return bool(self._shape)

    def _run(
        self, served: ServedModel, group: list[tuple[HttpConnection, HttpRequest]],
        rows: list[object],
    ) -> None:  # fmt: skip
        """Run rows at once or have them wait together, and answer each; or send them the ordinary
        way."""
        spec = served.description.inputs[0]
        try:
            merged = np.array(rows, spec.datatype.dtype).reshape((len(rows), *self._shape[1:]))
        except (ValueError, OverflowError):
            self._send_ordinary(group)
            return
        outputs = served.run_now([merged], len(rows), self._arrival_ns)
        if outputs is not None:
            _answer_all(served, group, outputs)
            return

        def done(result: InferenceResponse | InferdError) -> None:
            try:
                if isinstance(result, InferdError):
                    self._send_ordinary(group)
                else:
                    _answer_all(served, group, [tensor.array for tensor in result.outputs])
            except Exception:
                _log.exception("express lane failed", extra={"model": self._name})
                for connection, request in group:
                    connection.fail(request)

        if not served.submit_riders([merged], len(rows), self._arrival_ns, done):
            self._send_ordinary(group)

    def _send_ordinary(self, entries: list[tuple[HttpConnection, HttpRequest]]) -> None:
        for connection, request in entries:
            if not connection.closed:
                exchange = self._ordinary(connection, request, self._name, self._version)
                connection.adopt(request, exchange)


def _answer_all(
    served: ServedModel, group: list[tuple[HttpConnection, HttpRequest]], outputs: list[Array]
) -> None:
    for (connection, request), body in zip(group, _encode_rows(served, outputs), strict=True):
        _answer(connection, request, body)


def _answer(connection: HttpConnection, request: HttpRequest, body: bytes) -> None:
    fields = request.head.fields
    identity = request_id(fields.get(b"x-request-id"))
    accept = fields.get(b"accept-encoding")
    if accept is not None and len(body) >= MIN_COMPRESS_BYTES:
        encoding = choose_encoding(accept)
        if encoding:
            headers = [(b"x-request-id", identity), (b"content-encoding", encoding.encode())]
            connection.respond(200, compress(body, encoding), headers=headers)
            return
    connection.respond_tensors(body, identity)


def _is_small(shape: tuple[int, ...]) -> bool:
    return min(shape, default=1) > 0 and math.prod(shape) <= MAX_ELEMENTS


def _encode_rows(served: ServedModel, outputs: list[Array]) -> list[bytes]:
    """One answer for each row, as `encode_response` would write it."""
    answers: list[bytes] = []
    for index, (spec, output) in enumerate(zip(served.outputs, outputs, strict=True)):
        flat = np.ascontiguousarray(output).reshape(len(output), -1)
        rows = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
        head = single_row_head(
            served.name, str(served.version), spec.name, spec.datatype, output.shape[1:], index > 0
        )
        if index:
            answers = [b"%b%b%b]}" % (a, head, row) for a, row in zip(answers, rows, strict=True)]
        else:
            answers = [b"%b%b]}" % (head, row) for row in rows]
    return [b"%b]}" % answer for answer in answers]
