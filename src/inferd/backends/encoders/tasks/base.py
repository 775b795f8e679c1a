"""What an encoder does with texts: its tensors, how they are written in JSON, and its runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from inferd.types.datatype import BOOL, BYTES, FP32, INT32, DataType
from inferd.types.signature import Argument, Form
from inferd.types.tensor import Array, TensorSpec

Columns = Mapping[str, Sequence[str]]
"""Texts of a batch by the name of their input; one that was left out is not there."""

_JSON_TYPES = {BYTES: "string", FP32: "number", INT32: "integer", BOOL: "boolean"}


class EncoderTask(ABC):
    """A task of one loaded encoder; may be run from several threads.

    Shapes of `inputs` and `outputs` include the batch dimension. `arguments` are theirs, by name.
    `notes` are worth a log line.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: dict[str, Argument]
    description: str
    notes: tuple[str, ...]

    @abstractmethod
    def run(self, columns: Columns) -> dict[str, Array]:
        """Every output by name; raises InvalidRequest naming the input at fault."""


def text_argument(name: str, description: str, default: str | None = None) -> Argument:
    """An input that is a text."""
    return Argument(
        name=name, datatype=BYTES.name, form="value", schema={"type": "string"},
        description=description, default=default,
    )  # fmt: skip


def value_argument(name: str, datatype: DataType, description: str) -> Argument:
    """An output that is one text, number or truth."""
    return Argument(
        name=name, datatype=datatype.name, form="value",
        schema={"type": _JSON_TYPES[datatype]}, description=description,
    )  # fmt: skip


def vector_argument(name: str, size: int, description: str, **more: Any) -> Argument:
    """An output that is a vector of numbers; `more` goes into its schema."""
    schema = {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}
    return Argument(
        name=name, datatype=FP32.name, form="tensor", shape=(size,), schema=schema | more,
        description=description,
    )  # fmt: skip


def json_argument(name: str, schema: dict[str, Any], description: str) -> Argument:
    """An output that is any JSON value."""
    form: Form = "json"
    return Argument(
        name=name, datatype=BYTES.name, form=form, schema=schema, description=description
    )


def spec(name: str, datatype: DataType, *tail: int, **more: Any) -> TensorSpec:
    """A tensor with a batch dimension."""
    return TensorSpec(name, datatype, (-1, *tail), **more)


def elements(values: Sequence[bytes]) -> Array:
    """A BYTES array [N]."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def json_elements(values: Sequence[Any]) -> Array:
    """A BYTES array [N] of JSON texts."""
    return elements([msgspec.json.encode(value) for value in values])


TOKENS = value_argument("tokens", INT32, "How many tokens were read, special ones too")
TRUNCATED = value_argument("truncated", BOOL, "Whether the text was longer than what was read")
