"""What the configuration leaves open, completed from what the model says; what both say, compared.

Pure, but for `probe_batching`, which runs the model it is given. Shapes that models report include
the batch dimension; dims in a configuration leave it out when `max_batch_size` is 1 or more.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from inferd.backends.base import ModelDescription
from inferd.config.backend_config import DEFAULT_MAX_BATCH_SIZE as PARAMETER
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
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
    if max_batch_size:
        for spec in (*inputs, *outputs):
            if not spec.shape or (
                spec.shape[0] != -1 and (spec.shape[0], max_batch_size) != (1, 1)
            ):
                raise ConfigError(
                    f"is {max_batch_size}, but tensor '{spec.name}' has shape {list(spec.shape)}: "
                    "its first dimension is not free; set max_batch_size: 0",
                    field="max_batch_size",
                )
    batched = max_batch_size > 0
    return ModelDescription(
        platform=platform,
        backend=backend,
        max_batch_size=max_batch_size,
        inputs=_join("input", config.input, inputs, batched),
        outputs=_join("output", config.output, outputs, batched),
        notes=tuple(notes),
        steady=steady,
    )


def _join(
    field: str,
    configured: Sequence[ModelInput] | Sequence[ModelOutput],
    reported: Sequence[TensorSpec],
    batched: bool,
) -> tuple[TensorSpec, ...]:
    """The model's tensors with the configuration's narrower shapes, in the configuration's order.

    Inputs must all be configured or none; an output that is not configured is not offered.
    """
    reported = [replace(s, shape=(-1, *s.shape[1:]) if batched else s.shape) for s in reported]
    if not configured:
        return tuple(reported)
    by_name = {spec.name: spec for spec in reported}
    joined = []
    for entry in configured:
        spec = by_name.pop(entry.name, None)
        if spec is None:
            names = ", ".join(s.name for s in reported)
            raise ConfigError(f"the model has no '{entry.name}'; it has: {names}", field=field)
        if CONFIG_DATATYPES[entry.data_type] is not spec.datatype:
            raise ConfigError(
                f"'{entry.name}' is {entry.data_type}, but the model has "
                f"{spec.datatype.config_name}",
                field=f"{field}.data_type",
            )
        shape = (-1, *entry.dims) if batched else tuple(entry.dims)
        if not _narrows(shape, spec.shape):
            raise ConfigError(
                f"'{entry.name}' has dims {list(entry.dims)}, but the model has shape "
                f"{list(spec.shape)}" + (" (the first is the batch)" if batched else ""),
                field=f"{field}.dims",
            )
        joined.append(replace(spec, shape=shape))
    missing = [name for name, spec in by_name.items() if not spec.optional]
    if field == "input" and missing:
        raise ConfigError(f"the model also needs {', '.join(missing)}", field=field)
    return tuple(joined)


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
    shapes_of: Callable[[list[Array]], list[tuple[int, ...]]], inputs: Sequence[TensorSpec]
) -> list[tuple[int, ...]]:
    """Shapes of what a model returns, where nothing says them: it is run with made-up inputs, and
    again with more rows and with larger free dimensions, and what changes is free (-1).

    `shapes_of` runs the model; what it raises is raised. Raises BackendError where the number of
    outputs or of dimensions changes, too.
    """
    found = shapes_of(_made_up_inputs(inputs, 2, PROBE_DIM))
    for rows, size in ((3, PROBE_DIM), (2, PROBE_DIM + 1)):
        if any(-1 in (spec.shape[:1] if rows == 3 else spec.shape[1:]) for spec in inputs):
            again = shapes_of(_made_up_inputs(inputs, rows, size))
            if [len(shape) for shape in again] != [len(shape) for shape in found]:
                raise BackendError("the number of dimensions of an output changes with its inputs")
            found = [
                tuple(a if a == b else -1 for a, b in zip(one, other, strict=True))
                for one, other in zip(found, again, strict=True)
            ]
    return found


def _made_up_inputs(inputs: Sequence[TensorSpec], rows: int, size: int) -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = [
        tuple(dim if dim >= 0 else size if place else rows for place, dim in enumerate(spec.shape))
        for spec in inputs
    ]
    pairs = zip(inputs, shapes, strict=True)
    return [made_up(spec.datatype, shape, rng, 0) for spec, shape in pairs]


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
