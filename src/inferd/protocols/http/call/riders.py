"""The plainest calls with named arguments and their answers, for the express lane: one item of one
argument of numbers.
"""

from types import GenericAlias
from typing import Any

import msgspec
import orjson

from inferd.protocols.depth import check_shallow
from inferd.protocols.express.rows import merge_numbers, row_texts
from inferd.serving.served_model import ServedModel
from inferd.types.tensor import Array

_KINDS: dict[str, Any] = {"float": float, "int": int}
MOST_DIMS = 3


class CallRiders:
    """A RiderForm."""

    def __init__(self, served: ServedModel, name: str, kind: Any) -> None:
        self._decode = msgspec.json.Decoder(dict[str, kind]).decode
        self._name = name
        self._spec = served.description.inputs[0]
        bare = served.signature.bare
        names = [spec.name for spec in served.outputs]
        self._heads = [b"" if bare else b"%b:" % orjson.dumps(name) for name in names]
        self._bare = bare

    def row(self, body: bytes) -> object:
        """See RiderForm."""
        check_shallow(body)
        arguments = self._decode(body)
        if len(arguments) != 1 or self._name not in arguments:
            raise ValueError
        return arguments[self._name]

    def merge(self, rows: list[object]) -> Array:
        """See RiderForm."""
        return merge_numbers(rows, self._spec, flat=False)

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """See RiderForm."""
        answers: list[bytes] = []
        for head, output in zip(self._heads, outputs, strict=True):
            items = [head + item for item in _items(output)]
            pairs = zip(answers, items, strict=True)
            answers = [b"%b,%b" % pair for pair in pairs] if answers else items
        return answers if self._bare else [b"{%b}" % answer for answer in answers]


def call_riders(served: ServedModel) -> CallRiders | None:
    """The form for a model whose argument is a number, or lists of them."""
    signature, spec = served.signature, served.description.inputs[0]
    dims = len(spec.shape) - 1
    form = signature.inputs[0].form
    if form not in ("tensor", "value") or dims > MOST_DIMS or served.sequences is not None:
        return None
    kind = _KINDS[spec.datatype.kind]
    for _ in range(dims):
        kind = GenericAlias(list, (kind,))
    return CallRiders(served, spec.name, kind)


def _items(output: Array) -> list[bytes]:
    """Each row as JSON has it."""
    if output.ndim == 1:
        return orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if output.ndim == 2:
        return [b"[%b]" % row for row in row_texts(output)]
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in output]
