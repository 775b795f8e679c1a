"""The plainest ModelInfers and their answers, for the express lane: one row of one input of fixed
size, in raw contents at the message's end, and nothing asked for beside.

All of such a message but the row is the same for every request of a client. It is looked at once.
"""

from collections.abc import Iterable
from math import prod

import numpy as np

from inferd.errors import InferdError
from inferd.protocols.grpc.inference.request_codec import decode_infer
from inferd.protocols.grpc.inference.response_codec import heads_of_rows, varint
from inferd.serving.served_model import ServedModel
from inferd.types.tensor import Array

MAX_HEADS = 256

_MODEL, _RAW = 0x0A, b"\x3a"


class InferRiders:
    """A RiderForm."""

    def __init__(self, served: ServedModel) -> None:
        spec = served.description.inputs[0]
        self._served = served
        self._spec = spec
        self._size = prod(spec.shape[1:]) * spec.datatype.size_bytes
        self._mark = _RAW + varint(self._size)
        self._known: set[bytes] = set()
        """Messages but for their rows."""
        self._shapes: list[tuple[int, ...]] = []
        self._heads: list[bytes] = []

    def row(self, body: bytes) -> object:
        """See RiderForm: the bytes of the row."""
        size = self._size
        head = body[:-size]
        if head not in self._known:
            self._look(body, head)
        return body[-size:]

    def _look(self, body: bytes, head: bytes) -> None:
        """Remember a message's head; raises ValueError for one that is no plain request."""
        if not head.endswith(self._mark):
            raise ValueError
        try:
            request, _ = decode_infer(body)
        except InferdError as error:
            raise ValueError from error
        if len(request.inputs) != 1 or (
            request.id
            or request.parameters
            or request.outputs
            or request.timeout_us
            or request.priority
            or request.sequence
        ):
            raise ValueError
        if (request.model_name, request.model_version) != model_named(body):
            raise ValueError  # a field that is there twice counts as it is last
        (tensor,), spec = request.inputs, self._spec
        if (tensor.name, tensor.datatype) != (spec.name, spec.datatype) or (
            tensor.array.shape != (1, *spec.shape[1:])
            or tensor.array.tobytes() != body[-self._size :]
        ):
            raise ValueError
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known.add(head)

    def merge(self, rows: list[object]) -> Array:
        """See RiderForm."""
        spec = self._spec
        merged = np.frombuffer(b"".join(rows), spec.datatype.dtype)  # type: ignore[arg-type]
        return merged.reshape(len(rows), *spec.shape[1:])

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """See RiderForm."""
        shapes = [output.shape[1:] for output in outputs]
        if shapes != self._shapes:
            self._shapes, self._heads = shapes, self._heads_for(shapes)
        columns = [_rows(*pair) for pair in zip(self._heads, outputs, strict=True)]
        if len(columns) == 1:
            return columns[0]
        return [b"".join(row) for row in zip(*columns, strict=True)]

    def _heads_for(self, shapes: Iterable[tuple[int, ...]]) -> list[bytes]:
        served = self._served
        described = [
            (spec.name, spec.datatype, (1, *shape))
            for spec, shape in zip(served.outputs, shapes, strict=True)
        ]
        return heads_of_rows(served.name, str(served.version), described)


def infer_riders(served: ServedModel) -> InferRiders | None:
    """The form for a model; none for one of sequences, whose messages differ in more than rows."""
    return InferRiders(served) if served.sequences is None else None


def _rows(head: bytes, output: Array) -> list[bytes]:
    data = output.tobytes()
    size = len(data) // len(output)
    return [head + data[at : at + size] for at in range(0, len(data), size)]


def model_named(message: bytes) -> tuple[str, str]:
    """The name and version with which a message begins, as clients write it; raises ValueError for
    one that begins in another way."""
    if len(message) < 2 or message[0] != _MODEL or message[1] > 127:
        raise ValueError
    end = 2 + message[1]
    name = str(message[2:end], "utf-8")
    if message[end : end + 1] != b"\x12":
        return name, ""
    size = message[end + 1]
    if size > 127:
        raise ValueError
    return name, str(message[end + 2 : end + 2 + size], "utf-8")
