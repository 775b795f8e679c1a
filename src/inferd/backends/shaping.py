"""Between the tensors that clients know and those that a model has, where its configuration makes
them differ: a backend opens the model by a configuration in the model's own shapes, and what it
says of it is put back into the clients', with the BatchLayout that goes from one to the other.

So no backend knows of reshapes, ragged inputs, and what is made of a batch. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec

from inferd.backends.base import Model, ModelDescription, ModelInstance
from inferd.batching.layout import BatchLayout, InputLayout, MadeInput, OutputLayout
from inferd.config.model import ModelConfig, ModelInput, ModelOutput, ModelTensorReshape
from inferd.config.scheduling import BatchInput
from inferd.config.tensors import check_tensors, own_dims
from inferd.errors import ConfigError
from inferd.types.datatype import CONFIG_DATATYPES
from inferd.types.tensor import TensorSpec


def has_layout(config: ModelConfig) -> bool:
    """Whether a model's own tensors are others than its clients'."""
    return bool(_said(config))


def refuse_layout(config: ModelConfig, why: str) -> None:
    """Raises ConfigError, with the reason, for a model whose tensors nothing may come before."""
    for field in _said(config):
        raise ConfigError(f"is not for this model: {why}", field=field)


def _said(config: ModelConfig) -> list[str]:
    fields = [
        *("input.reshape" for entry in config.input if entry.reshape is not None),
        *("input.allow_ragged_batch" for entry in config.input if entry.allow_ragged_batch),
        *("output.reshape" for entry in config.output if entry.reshape is not None),
    ]
    if config.batch_input:
        fields.append("batch_input")
    if config.batch_output:
        fields.append("batch_output")
    return fields


def _of_batch(config: ModelConfig) -> bool:
    """Whether it is not all one to the model which requests run together."""
    ragged = any(entry.allow_ragged_batch for entry in config.input)
    return ragged or bool(config.batch_input or config.batch_output)


def own_config(config: ModelConfig) -> ModelConfig:
    """The configuration as it would be if clients sent what the model takes.

    Entries keep what is said beside their dims, so that errors can name it; the `reshape` of a
    ragged input is the shape that one request has for the model. How many rows share a batch cannot
    be tried out where they do not lie beside one another: there Triton's default is kept, none.
    Raises ConfigError for what contradicts itself.
    """
    check_tensors(config)
    if config.max_batch_size is None and _of_batch(config):
        config = msgspec.structs.replace(config, max_batch_size=0)
    batched = config.max_batch_size != 0
    one_dimension = () if batched else (-1,)
    inputs = [
        msgspec.structs.replace(
            entry, dims=one_dimension, reshape=ModelTensorReshape(shape=own_dims(entry))
        )
        if entry.allow_ragged_batch
        else msgspec.structs.replace(entry, dims=own_dims(entry))
        for entry in config.input
    ]
    sources = {entry.name: entry for entry in config.input}
    for made in config.batch_input:
        dims = one_dimension
        if made.kind == "BATCH_ITEM_SHAPE":
            dims = (len(own_dims(sources[made.source_input[0]])),)
        inputs += [
            ModelInput(name=name, data_type=made.data_type, dims=dims) for name in made.target_name
        ]
    outputs = [msgspec.structs.replace(entry, dims=own_dims(entry)) for entry in config.output]
    return msgspec.structs.replace(config, input=tuple(inputs), output=tuple(outputs))


def laid_out(config: ModelConfig, own: ModelDescription) -> ModelDescription:
    """What clients are told of a model that was opened by `own_config`, with its layout.

    Raises ConfigError for a model whose author says what its tensors mean.
    """
    if own.signature is not None:
        refuse_layout(config, "its author says what its tensors are")
    batched = own.max_batch_size > 0
    given = own.inputs[: len(own.inputs) - sum(len(m.target_name) for m in config.batch_input)]
    places = {spec.name: place for place, spec in enumerate(given)}
    sources = {
        name: places[cut.source_input[0]] for cut in config.batch_output for name in cut.target_name
    }
    entries = {entry.name: entry for entry in config.output}
    layout = BatchLayout(
        batched,
        tuple(_input_layout(entry) for entry in config.input)
        or tuple(InputLayout() for _ in given),
        tuple(_made(config.batch_input, places)),
        tuple(_output_layout(s.name, entries.get(s.name), sources) for s in own.outputs),
    )
    notes = own.notes
    if config.max_batch_size is None and _of_batch(config):
        notes = (*notes, "no batching: with ragged inputs max_batch_size has to be said")
    return replace(
        own,
        notes=notes,
        inputs=_as_clients_know(given, config.input, batched),
        outputs=_as_clients_know(own.outputs, config.output, batched),
        layout=layout,
    )


def _input_layout(entry: ModelInput) -> InputLayout:
    own = None if entry.reshape is None else entry.reshape.shape
    return InputLayout(entry.dims, own, entry.allow_ragged_batch)


def _output_layout(name: str, entry: ModelOutput | None, sources: dict[str, int]) -> OutputLayout:
    if entry is None:
        return OutputLayout(name)
    own = None if entry.reshape is None else entry.reshape.shape
    return OutputLayout(name, entry.dims, own, sources.get(name))


def _made(entries: Sequence[BatchInput], places: dict[str, int]) -> Iterable[MadeInput]:
    for entry in entries:
        datatype = CONFIG_DATATYPES[entry.data_type].name
        for _ in entry.target_name:
            yield MadeInput(entry.kind, datatype, places[entry.source_input[0]])


def _as_clients_know(
    own: Sequence[TensorSpec], entries: Sequence[ModelInput] | Sequence[ModelOutput], batched: bool
) -> tuple[TensorSpec, ...]:
    """The model's tensors with the configuration's dims; it names all of them or none."""
    if not entries:
        return tuple(own)
    lead = (-1,) if batched else ()
    shapes = [(*lead, *entry.dims) for entry in entries]
    return tuple(replace(spec, shape=s) for spec, s in zip(own, shapes, strict=True))


class LaidOutModel:
    """A Model as clients know it; what its instances are given, a BatchLayout makes."""

    def __init__(self, model: Model, config: ModelConfig) -> None:
        self._model = model
        self.description: ModelDescription = laid_out(config, model.description)

    def create_instance(self) -> ModelInstance:
        """See Model."""
        return self._model.create_instance()

    def create_lanes(self) -> list[ModelInstance]:
        """See Model."""
        return self._model.create_lanes()

    def close(self) -> None:
        """See Model."""
        self._model.close()
