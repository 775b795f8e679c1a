"""What the configuration leaves open, completed from what the model says; what both say, compared.

Pure, but for `probe_batching`, which runs the model it is given. Shapes that models report include
the batch dimension; dims in a configuration leave it out when `max_batch_size` is 1 or more.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from inferd.backends.base import ModelDescription
from inferd.batching.layout import MAKERS
from inferd.config.backend_config import DEFAULT_MAX_BATCH_SIZE as PARAMETER
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.sequence_tensors import filled_specs, kept_specs
from inferd.errors import BackendError, ConfigError, InferdError
from inferd.types.datatype import BF16, BYTES, CONFIG_DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec

DEFAULT_MAX_BATCH_SIZE = 64
"""Taken where the model allows batches and the configuration does not say how large."""

PROBE_DIM = 8
"""Size that a probe gives to dimensions that the model leaves free."""

Run = Callable[[list[Array]], list[Array]]


def complete(
    config: ModelConfig,
    platform: str,
    backend: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
    notes: Iterable[str] = (),
    steady: bool = False,
) -> ModelDescription:
    """Join configuration and model; raises ConfigError naming the field where they disagree.

    `max_batch_size` is the configuration's, or what the backend takes where it does not say: then
    --backend-config may say another.
    """
    if config.max_batch_size is None and max_batch_size:
        max_batch_size = int(config.parameter(PARAMETER, str(max_batch_size)))
    scattered = {name for entry in config.batch_output for name in entry.target_name}
    if max_batch_size:
        for spec in (*inputs, *(spec for spec in outputs if spec.name not in scattered)):
            if not spec.shape or (
                spec.shape[0] != -1 and (spec.shape[0], max_batch_size) != (1, 1)
            ):
                raise ConfigError(
                    f"is {max_batch_size}, but tensor '{spec.name}' has shape {list(spec.shape)}: "
                    "its first dimension is not free; set max_batch_size: 0",
                    field="max_batch_size",
                )
    batched = max_batch_size > 0
    notes = [*notes, *_needed_anyway(config.input, inputs)]
    filled, kept = filled_specs(config, batched), kept_specs(config, batched)
    sent = [spec for spec in inputs if spec.name not in {s.name for s in filled}]
    given = [spec for spec in outputs if spec.name not in {s.name for s in kept}]
    return ModelDescription(
        platform=platform,
        backend=backend,
        max_batch_size=max_batch_size,
        inputs=_join(config, "input", sent, batched) + _own(filled, inputs, batched),
        outputs=_join(config, "output", given, batched) + _own(kept, outputs, batched),
        notes=tuple(notes),
        steady=steady,
    )


def _join(
    config: ModelConfig, field: str, reported: Sequence[TensorSpec], batched: bool
) -> tuple[TensorSpec, ...]:
    """The model's tensors with the configuration's narrower shapes, in the configuration's order.

    Inputs must all be configured or none; an output that is not configured is not offered. The
    shape of one that is cut by the shapes of a batch is nobody's to say.
    """
    configured = config.input if field == "input" else config.output
    made = {name: entry.kind for entry in config.batch_input for name in entry.target_name}
    cut = {name for entry in config.batch_output for name in entry.target_name}
    reported = [replace(s, shape=(-1, *s.shape[1:]) if batched else s.shape) for s in reported]
    if not configured:
        return tuple(reported)
    by_name = {spec.name: spec for spec in reported}
    joined = []
    for entry in configured:
        spec = by_name.pop(entry.name, None)
        kind = made.get(entry.name, "") if field == "input" else ""
        if spec is None:
            names = ", ".join(s.name for s in reported)
            raise ConfigError(
                f"the model has no '{entry.name}'; it has: {names}",
                field="batch_input.target_name" if kind else field,
            )
        if CONFIG_DATATYPES[entry.data_type] is not spec.datatype:
            raise ConfigError(
                f"'{entry.name}' is {entry.data_type}, but the model has "
                f"{spec.datatype.config_name}",
                field="batch_input.data_type" if kind else f"{field}.data_type",
            )
        shape = (-1, *entry.dims) if batched else tuple(entry.dims)
        if field == "output" and entry.name in cut:
            shape = spec.shape
        if not _narrows(shape, spec.shape):
            raise _other_shape(field, entry, kind, shape, spec.shape, batched)
        joined.append(replace(spec, shape=shape))
    missing = [name for name, spec in by_name.items() if not spec.optional]
    if field == "input" and missing:
        raise ConfigError(f"the model also needs {', '.join(missing)}", field=field)
    return tuple(joined)


def _other_shape(
    field: str, entry: ModelInput | ModelOutput, kind: str, shape: tuple[int, ...],
    reported: tuple[int, ...], batched: bool,
) -> ConfigError:  # fmt: skip
    """The model has another shape than the configuration says, or would have it have; `kind` is how
    an input is made of a batch, if it is."""
    field, said = f"{field}.dims", f"has dims {list(entry.dims)}"
    batch = " (the first is the batch)" if batched else ""
    if kind:
        field, said, batch = "batch_input.kind", f"is made with shape {list(shape)} ({kind})", ""
    elif isinstance(entry, ModelInput) and entry.allow_ragged_batch:
        field, batch = "input.allow_ragged_batch", ""
        said = "comes in one dimension, [-1], where requests of different shapes share a batch"
    elif entry.reshape is not None:
        field = field.replace("dims", "reshape")
        said = f"has shape {list(shape)} by its reshape"
    return ConfigError(
        f"'{entry.name}' {said}, but the model has shape {list(reported)}{batch}", field=field
    )


def _needed_anyway(configured: Sequence[ModelInput], reported: Sequence[TensorSpec]) -> list[str]:
    """Notes of inputs that only the configuration thinks one can do without."""
    needed = {spec.name for spec in reported if not spec.optional}
    return [
        f"input.optional of '{entry.name}': the model needs it, so a request that leaves it out is "
        "refused"
        for entry in configured
        if entry.optional and entry.name in needed
    ]


def _own(
    specs: Sequence[TensorSpec], reported: Sequence[TensorSpec], batched: bool
) -> tuple[TensorSpec, ...]:
    """The tensors of a sequence model that are the server's; the model must have them."""
    by_name = {spec.name: spec for spec in reported}
    for spec in specs:
        found = by_name.get(spec.name)
        if found is None:
            raise ConfigError(
                f"the model has no '{spec.name}'; it has: {', '.join(by_name)}",
                field="sequence_batching",
            )
        shape = (-1, *found.shape[1:]) if batched else found.shape
        if found.datatype is not spec.datatype or not _narrows(spec.shape, shape):
            raise ConfigError(
                f"'{spec.name}' is {spec.datatype.config_name} {list(spec.shape)}, but the model "
                f"has {found.datatype.config_name} {list(shape)}"
                + (" (the first is the batch)" if batched else ""),
                field="sequence_batching",
            )
    return tuple(specs)


def _narrows(shape: tuple[int, ...], reported: tuple[int, ...]) -> bool:
    return len(shape) == len(reported) and all(
        theirs in (-1, ours) for ours, theirs in zip(shape, reported, strict=True)
    )


def probe_batching(
    run: Run, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[int, str]:
    """Whether rows of the model are independent of each other: the batch size to use, and why.

    A free first dimension may be a batch or, say, a sequence; joining sequences would silently give
    wrong answers. So two single rows are run alone and together, and must give the same.
    """
    specs = (*inputs, *outputs)
    if not inputs or not all(spec.shape and spec.shape[0] == -1 for spec in specs):
        return 0, "no batching: not every input and output has a free first dimension"
    rng = np.random.default_rng(0)
    first, second = ([_sample(spec, rng, row) for spec in inputs] for row in range(2))
    try:
        alone = [run(first), run(second)]
        together = run([np.concatenate(pair) for pair in zip(first, second, strict=True)])
    except InferdError as error:
        return 0, f"no batching: a probe with made-up rows failed ({error}); set max_batch_size"
    for index, spec in enumerate(outputs):
        parts = np.concatenate([alone[0][index], alone[1][index]])
        if parts.shape != together[index].shape or not _same(parts, together[index]):
            return 0, f"no batching: in output '{spec.name}' rows of a batch are not independent"
    return DEFAULT_MAX_BATCH_SIZE, (
        f"batches of up to {DEFAULT_MAX_BATCH_SIZE} rows: two rows gave the same alone and together"
    )


def observed_shapes(
    shapes_of: Callable[[list[Array]], list[tuple[int, ...]]], inputs: Sequence[TensorSpec],
    config: ModelConfig | None = None,
) -> list[tuple[int, ...]]:  # fmt: skip
    """Shapes of what a model returns, where nothing says them: it is run with made-up inputs, and
    again with more rows and with larger free dimensions, and what changes is free (-1).

    `config`, in the model's own shapes, says which inputs are of a batch as a whole, and have to
    fit together. `shapes_of` runs the model; what it raises is raised. Raises BackendError where
    the number of outputs or of dimensions changes, too.
    """
    config = config or ModelConfig()
    found = shapes_of(_made_up_inputs(config, inputs, 2, PROBE_DIM))
    ragged = any(entry.allow_ragged_batch for entry in config.input)
    for rows, size in ((3, PROBE_DIM), (2, PROBE_DIM + 1)):
        free = [spec.shape[:1] if rows == 3 else spec.shape[1:] for spec in inputs]
        if ragged or any(-1 in sizes for sizes in free):
            again = shapes_of(_made_up_inputs(config, inputs, rows, size))
            if [len(shape) for shape in again] != [len(shape) for shape in found]:
                raise BackendError("the number of dimensions of an output changes with its inputs")
            found = [
                tuple(a if a == b else -1 for a, b in zip(one, other, strict=True))
                for one, other in zip(found, again, strict=True)
            ]
    return found


def _made_up_inputs(
    config: ModelConfig, inputs: Sequence[TensorSpec], rows: int, size: int
) -> list[Array]:
    """Inputs of `rows` requests of one row, joined as the model takes them."""
    rng = np.random.default_rng(0)
    shapes = {
        spec.name: tuple(
            dim if dim >= 0 else size if place else rows for place, dim in enumerate(spec.shape)
        )
        for spec in inputs
    }
    items = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    for entry in config.input:
        if entry.allow_ragged_batch and entry.reshape is not None:
            items[entry.name] = (1, *(size if dim < 0 else dim for dim in entry.reshape.shape))
            shapes[entry.name] = (rows * math.prod(items[entry.name]),)
    arrays = {s.name: made_up(s.datatype, shapes[s.name], rng, 0) for s in inputs}
    for made in config.batch_input:
        of_requests = [items[made.source_input[0]]] * rows
        for name in made.target_name:
            arrays[name] = MAKERS[made.kind](of_requests, arrays[name].dtype)
    return [arrays[spec.name] for spec in inputs]


def _sample(spec: TensorSpec, rng: np.random.Generator, row: int) -> Array:
    shape = (1, *(PROBE_DIM if dim < 0 else dim for dim in spec.shape[1:]))
    return made_up(spec.datatype, shape, rng, row)


def made_up(
    datatype: DataType, shape: tuple[int, ...], rng: np.random.Generator, row: int
) -> Array:
    """Made-up row 0 or 1: small numbers, which any vocabulary and any range has. The two differ in
    every element; the first begins with a 1, so that what it adds to the second is seen."""
    if datatype is BYTES:
        return np.full(shape, b"ba"[row : row + 1], dtype=object)
    if datatype.kind in ("int", "bool"):
        alternating = (np.arange(math.prod(shape)) + 1 + row) % 2
        return alternating.reshape(shape).astype(datatype.dtype)
    values = rng.random(shape, np.float32) + np.float32(1 + row)
    if datatype is BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(datatype.dtype)


def _same(a: Array, b: Array) -> bool:
    if a.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True))
    return bool(np.array_equal(a, b))
