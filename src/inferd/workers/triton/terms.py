"""What a TritonPythonModel is to its requests: names, datatypes and shapes of its tensors, whether
it batches, and whether requests may come again.
"""

import msgspec
import numpy as np

from inferd.batching.layout import InputLayout, OutputLayout
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.sequence_tensors import is_iterative
from inferd.types.datatype import BYTES, CONFIG_DATATYPES, DataType
from inferd.types.tensor import Array
from inferd.workers.triton.tensor import Tensor


class Given(msgspec.Struct, frozen=True):
    """An input; with a `layout` the model's own shape of it is another than its clients'."""

    name: str
    kind: DataType
    layout: InputLayout | None = None

    def tensor(self, array: Array, lead: int) -> Tensor:
        """What a request has of it, `lead` dimensions of it the batch."""
        if self.layout is not None:
            array = array.reshape(self.layout.own_shape(array, lead))
        return Tensor.of(self.name, self.kind, array)


class Made(msgspec.Struct, frozen=True):
    """An output, as Given."""

    name: str
    kind: DataType
    layout: OutputLayout | None = None

    def array(self, tensor: Tensor, lead: int) -> Array:
        """The elements as clients are to have them; raises TypeError where the datatype would make
        other values of them, and BackendError for a shape that is neither the model's own nor its
        clients'."""
        array = tensor.array if tensor.kind is self.kind else cast(tensor, self.kind)
        return array if self.layout is None else self.layout.returned(array, lead)


class Terms(msgspec.Struct, frozen=True):
    """Inputs, and outputs with their places by name."""

    name: str
    version: int
    inputs: list[Given]
    outputs: list[Made]
    places: dict[str, int]
    batched: bool
    iterative: bool = False

    @property
    def lead(self) -> int:
        """How many dimensions are the batch."""
        return int(self.batched)

    @property
    def reshapes(self) -> bool:
        """Whether clients know outputs in other shapes than the model."""
        return any(made.layout is not None for made in self.outputs)


def terms_of(name: str, version: int, config: ModelConfig) -> Terms:
    """Those of a model by its configuration, which lists all tensors."""
    return Terms(
        name,
        version,
        [_given(entry) for entry in config.input],
        [_made(entry) for entry in config.output],
        {entry.name: place for place, entry in enumerate(config.output)},
        bool(config.max_batch_size),
        is_iterative(config),
    )


def _given(entry: ModelInput) -> Given:
    own = None if entry.reshape is None else InputLayout(entry.dims, entry.reshape.shape)
    return Given(entry.name, CONFIG_DATATYPES[entry.data_type], own)


def _made(entry: ModelOutput) -> Made:
    own = entry.reshape
    layout = None if own is None else OutputLayout(entry.name, entry.dims, own.shape)
    return Made(entry.name, CONFIG_DATATYPES[entry.data_type], layout)


def cast(tensor: Tensor, kind: DataType) -> Array:
    """The elements of an output in the datatype that the configuration says; raises TypeError where
    that would be another value."""
    array = tensor.array
    if kind is BYTES or tensor.kind is BYTES or tensor.kind.dtype == kind.dtype:
        fits = False
    else:
        fits = np.can_cast(array.dtype, kind.dtype, "same_kind")
    if not fits:
        raise TypeError(
            f"output '{tensor.name()}' is {tensor.kind.config_name}, but its configuration says "
            f"{kind.config_name}"
        )
    return array.astype(kind.dtype)
