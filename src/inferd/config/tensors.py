"""What a model's configuration says of tensors, checked by itself: shapes, reshapes, what only
another framework has, and what is made of a batch and cut from it. The rules are Triton's.

It refuses to know what the model really has (`backends/completion.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import BatchInput, BatchOutput
from inferd.errors import ConfigError

Shape = tuple[int, ...]

_FOR_TENSORRT = {
    "is_shape_tensor": "shape tensors are TensorRT's, which inferd does not run",
    "is_non_linear_format_io": "formats that are not linear are TensorRT's, which inferd does not "
    "run",
}
_PER_ITEM = ("BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN")
_IMAGE_DIMS = 3


class Wrong(NamedTuple):
    """A field, and what is wrong with it."""

    field: str
    why: str


def check_tensors(config: ModelConfig, *, file: str = "") -> None:
    """Raises ConfigError that names the field and the fix where what is said of tensors contradicts
    itself, or cannot be done by any model here."""
    for field, why in _contradictions(config):
        raise ConfigError(why, file=file, field=field)


def own_dims(entry: ModelInput | ModelOutput) -> Shape:
    """The shape that the model itself has for a tensor, without the batch."""
    return entry.dims if entry.reshape is None else entry.reshape.shape


def _contradictions(config: ModelConfig) -> Iterator[Wrong]:
    for given in config.input:
        yield from _of_tensor("input", given)
        if given.format != "FORMAT_NONE" and len(given.dims) != _IMAGE_DIMS:
            yield Wrong(
                "input.format",
                f"'{given.name}' is {given.format}, an image's, which has {_IMAGE_DIMS} dims "
                f"without the batch, and it has {list(given.dims)}; take the format out",
            )
    for made in config.output:
        yield from _of_tensor("output", made)
    yield from _of_batch(config)


def _of_tensor(field: str, entry: ModelInput | ModelOutput) -> Iterator[Wrong]:
    for name, why in _FOR_TENSORRT.items():
        if getattr(entry, name):
            yield Wrong(f"{field}.{name}", f"of '{entry.name}' has to be false: {why}")
    if any(dim < -1 for dim in entry.dims):
        told = f"of '{entry.name}' are {list(entry.dims)}; a dim is a size, or -1 for any size"
        yield Wrong(f"{field}.dims", told)
    if entry.reshape is None:
        return
    own = entry.reshape.shape
    if any(dim < 1 and dim != -1 for dim in own):
        told = f"of '{entry.name}' is {list(own)}; a dim of it is 1 or more, or -1 for any size"
        yield Wrong(f"{field}.reshape", told)
    elif _sizes(entry.dims) != _sizes(own):
        yield Wrong(
            f"{field}.reshape",
            f"of '{entry.name}' is {list(own)}, and dims are {list(entry.dims)}: both need as many "
            "dims of -1, and as many elements before, between and behind those",
        )


def _sizes(dims: Shape) -> list[int]:
    """Elements of what stands before, between and behind the free dimensions."""
    sizes = [1]
    for dim in dims:
        if dim == -1:
            sizes.append(1)
        else:
            sizes[-1] *= dim
    return sizes


# -- of a batch --------------------------------------------------------------------------------


def _of_batch(config: ModelConfig) -> Iterator[Wrong]:
    inputs = {entry.name: entry for entry in config.input}
    outputs = {entry.name: entry for entry in config.output}
    for made in config.batch_input:
        yield from _of_source("batch_input", made, inputs)
        yield from _of_batch_input(config, made, inputs)
    for cut in config.batch_output:
        yield from _of_source("batch_output", cut, inputs)
        yield from _of_batch_output(cut, inputs, outputs)
    yield from _said_twice("batch_input", config.batch_input)
    yield from _said_twice("batch_output", config.batch_output)


def _said_twice(field: str, entries: Sequence[BatchInput | BatchOutput]) -> Iterator[Wrong]:
    for name, count in Counter(name for entry in entries for name in entry.target_name).items():
        if count > 1:
            yield Wrong(f"{field}.target_name", f"names '{name}' {count} times")


def _of_source(
    field: str, entry: BatchInput | BatchOutput, inputs: dict[str, ModelInput]
) -> Iterator[Wrong]:
    if not entry.target_name:
        yield Wrong(f"{field}.target_name", "names nothing; name the model's tensor")
    if len(entry.source_input) != 1:
        yield Wrong(
            f"{field}.source_input",
            f"of {entry.kind} is one input, and {len(entry.source_input)} are named",
        )
    for name in entry.source_input:
        given = inputs.get(name)
        if given is None:
            told = f"'{name}' is no input; there are: {_listed(inputs)}"
            yield Wrong(f"{field}.source_input", told)
        elif given.optional:
            told = f"'{name}' is optional: where it is left out there is nothing to go by"
            yield Wrong(f"{field}.source_input", told)


def _of_batch_input(
    config: ModelConfig, entry: BatchInput, inputs: dict[str, ModelInput]
) -> Iterator[Wrong]:
    if entry.data_type not in ("TYPE_INT32", "TYPE_FP32"):
        told = f"is {entry.data_type}; a batch input is TYPE_INT32 or TYPE_FP32"
        yield Wrong("batch_input.data_type", told)
    for name in entry.target_name:
        if name in inputs:
            yield Wrong(
                "batch_input.target_name",
                f"'{name}' is made by the server, and is among the inputs that clients send; take "
                "it out of input",
            )
    if entry.kind in _PER_ITEM and not config.max_batch_size:
        yield Wrong("batch_input.kind", f"{entry.kind} needs a max_batch_size of 1 or more")


def _of_batch_output(
    entry: BatchOutput, inputs: dict[str, ModelInput], outputs: dict[str, ModelOutput]
) -> Iterator[Wrong]:
    source = inputs[entry.source_input[0]]
    sizes = own_dims(source)
    for name in entry.target_name:
        if name not in outputs:
            told = f"'{name}' is no output; there are: {_listed(outputs)}"
            yield Wrong("batch_output.target_name", told)
            continue
        free = [place for place, dim in enumerate(own_dims(outputs[name])) if dim == -1]
        if free and free[-1] >= len(sizes):
            yield Wrong(
                "batch_output.source_input",
                f"'{name}' has a free dim at place {free[-1]}, and '{source.name}', whose size it "
                f"takes, has no more than {len(sizes)} dims",
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none in the configuration"
