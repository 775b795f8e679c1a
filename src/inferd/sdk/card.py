"""All that a server must know of a model class, in a form that crosses between processes."""

import struct
from typing import Any

import msgspec
import numpy as np

from inferd.sdk.interface import Interface
from inferd.sdk.options import ModelOptions
from inferd.sdk.slots import Slot
from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.signature import Signature
from inferd.types.tensor import Array


class TensorCard(msgspec.Struct, frozen=True):
    """A tensor of a model. `shape` has the batch dimension where the model batches, -1 is any
    size, None any shape at all."""

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    optional: bool = False


class TensorData(msgspec.Struct, frozen=True):
    """A tensor with its values: little-endian, BYTES elements each after its length in 4 bytes."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes

    def array(self) -> Array:
        """The array, not to be written to."""
        datatype = DATATYPES[self.datatype]
        if datatype is not BYTES:
            return np.frombuffer(self.data, datatype.dtype).reshape(self.shape)
        elements, start = [], 0
        while start < len(self.data):
            (size,) = struct.unpack_from("<I", self.data, start)
            elements.append(self.data[start + 4 : start + 4 + size])
            start += 4 + size
        array = np.empty(len(elements), object)
        array[:] = elements
        return array.reshape(self.shape)


class DependencyCard(msgspec.Struct, frozen=True):
    """A model that another one asks: the attribute that holds it, its served name, and, where it
    is a class, `file.py:Class`."""

    attribute: str
    name: str
    target: str = ""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model class. `defaults` are tensors of one item for arguments that may be left out; one
    that is optional and not there is passed on as left out. `is_async` where any of its methods
    is, `streams` where `predict` gives a stream."""

    name: str
    options: ModelOptions
    signature: Signature
    explain: Signature | None
    batched: bool
    is_async: bool
    streams: bool
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    defaults: dict[str, TensorData] = {}
    explain_inputs: tuple[TensorCard, ...] = ()
    explain_outputs: tuple[TensorCard, ...] = ()
    depends: tuple[DependencyCard, ...] = ()
    has_asgi: bool = False


def make_card(
    name: str,
    options: ModelOptions,
    predict: Interface,
    explain: Interface | None,
    depends: tuple[DependencyCard, ...],
    has_asgi: bool,
) -> ModelCard:
    """The card of a class under the name it is served by."""
    return ModelCard(
        name=name,
        options=options,
        signature=predict.signature,
        explain=explain.signature if explain else None,
        batched=predict.batched,
        is_async=predict.is_async or (explain is not None and explain.is_async),
        streams=predict.signature.streams,
        inputs=_tensors(predict.slots),
        outputs=_tensors(predict.results.slots),
        defaults={slot.name: _data(slot, predict.defaults) for slot in predict.slots
                  if slot.name in predict.defaults},
        explain_inputs=_tensors(explain.slots) if explain else (),
        explain_outputs=_tensors(explain.results.slots) if explain else (),
        depends=depends,
        has_asgi=has_asgi,
    )  # fmt: skip


def _tensors(slots: tuple[Slot, ...]) -> tuple[TensorCard, ...]:
    return tuple(
        TensorCard(s.name, s.argument.datatype, s.tensor_shape, s.argument.default is not None)
        for s in slots
    )


def _data(slot: Slot, defaults: dict[str, Array]) -> TensorData:
    array = defaults[slot.name]
    data: Any = array.tobytes()
    if array.dtype == np.object_:
        data = b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
    return TensorData(slot.argument.datatype, array.shape, data)
