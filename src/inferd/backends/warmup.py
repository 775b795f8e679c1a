"""The requests that a configuration warms a model up with (`model_warmup`), and made-up ones, as an
instance or a job is given them. It refuses to run them.

Files of data lie in the model's folder `warmup`: the bytes of one row, in C order, little-endian;
of strings each with its length before it, in four bytes.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from inferd.batching.layout import BatchLayout
from inferd.config.model import ModelConfig, ModelWarmup, WarmupInput
from inferd.errors import ConfigError
from inferd.types.datatype import BYTES, CONFIG_DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec, left_out

FOLDER = "warmup"
MAX_FREE = 8
"""Size that made-up rows have in dimensions that are free."""


class WarmupBatch(msgspec.Struct, frozen=True, eq=False):
    """A batch of so many requests of one row each, joined as the model is given it, to be run
    `count` times; `name` is the configuration's."""

    name: str
    inputs: list[Array]
    rows: int
    count: int


def warmup_batches(
    config: ModelConfig, folder: Path | None, inputs: Sequence[TensorSpec], max_batch_size: int,
    layout: BatchLayout | None, filled: Collection[str] = (),
) -> Iterator[WarmupBatch]:  # fmt: skip
    """What the configuration says, one batch after the other; `folder` is the model's. Inputs that
    are `filled` by the server are zeros where it does not say them.

    Raises ConfigError that names the field and the fix.
    """
    for place, warmup in enumerate(config.model_warmup):
        field = f"model_warmup[{place}]"
        most = max(1, max_batch_size)
        if warmup.batch_size > most:
            raise ConfigError(
                f"is {warmup.batch_size}, over the model's max_batch_size of {max_batch_size}",
                field=f"{field}.batch_size",
            )
        _check_names(warmup, inputs, filled, field)
        request = [
            _request_array(warmup, spec, folder, max_batch_size > 0, field, filled)
            for spec in inputs
        ]
        rows = warmup.batch_size or 1
        yield WarmupBatch(warmup.name, joined([request] * rows, layout), rows, warmup.count)


def zeros(
    inputs: Sequence[TensorSpec], rows: int, batched: bool, layout: BatchLayout | None
) -> list[Array]:
    """A batch of `rows` requests of nothing, with a few elements where a size is free."""
    if layout is not None and not layout.by_rows:
        return layout.merge([[_zeros(spec, 1, batched) for spec in inputs]] * rows)
    arrays = [_zeros(spec, rows, batched) for spec in inputs]
    return arrays if layout is None else layout.merge([arrays])


def joined(requests: Sequence[list[Array]], layout: BatchLayout | None) -> list[Array]:
    """What a model is given for requests that run together."""
    if layout is not None:
        return layout.merge(requests)
    if len(requests) == 1:
        return requests[0]
    return [np.concatenate(column) for column in zip(*requests, strict=True)]


def _zeros(spec: TensorSpec, rows: int, batched: bool) -> Array:
    shape = [MAX_FREE if dim < 0 else dim for dim in spec.shape]
    if batched:
        shape[0] = rows
    return _filled(spec.datatype, shape)


def _filled(kind: DataType, shape: Sequence[int]) -> Array:
    fill: object = b"" if kind is BYTES else 0
    return np.full(shape, fill, dtype=kind.dtype)


def _check_names(
    warmup: ModelWarmup, inputs: Sequence[TensorSpec], filled: Collection[str], field: str
) -> None:
    known = [spec.name for spec in inputs]
    for name in warmup.inputs:
        if name not in known:
            raise ConfigError(
                f"is no input that clients send; there are: {', '.join(known)}",
                field=f"{field}.inputs.{name}",
            )
    for spec in inputs:
        if spec.name not in (*warmup.inputs, *filled) and not spec.optional:
            raise ConfigError(
                "the warm-up needs every input of the model", field=f"{field}.inputs.{spec.name}"
            )


def _request_array(
    warmup: ModelWarmup, spec: TensorSpec, folder: Path | None, batched: bool, field: str,
    filled: Collection[str],
) -> Array:  # fmt: skip
    data = warmup.inputs.get(spec.name)
    if data is not None:
        return _array(data, spec, folder, batched, f"{field}.inputs.{spec.name}")
    return _zeros(spec, 1, batched) if spec.name in filled else left_out(spec)


def _array(
    data: WarmupInput, spec: TensorSpec, folder: Path | None, batched: bool, field: str
) -> Array:
    """One row; raises ConfigError."""
    kind = spec.datatype
    if CONFIG_DATATYPES[data.data_type] is not kind:
        raise ConfigError(
            f"is {data.data_type}, the model expects {kind.config_name}",
            field=f"{field}.data_type",
        )
    expected = spec.shape[1:] if batched else spec.shape
    fits = len(data.dims) == len(expected) and all(
        dim in (-1, size) for dim, size in zip(expected, data.dims, strict=True)
    )
    if not fits and not spec.any_shape:
        raise ConfigError(
            f"are {list(data.dims)}, the model expects {list(expected)}"
            + (" (without the batch)" if batched else ""),
            field=f"{field}.dims",
        )
    said = [name for name in ("zero_data", "random_data", "input_data_file") if getattr(data, name)]
    if len(said) > 1:
        raise ConfigError(f"says {' and '.join(said)}; choose one", field=field)
    shape = (1, *data.dims) if batched else data.dims
    if data.input_data_file:
        return _read(data.input_data_file, kind, shape, folder, f"{field}.input_data_file")
    if not data.random_data or kind is BYTES:
        return _filled(kind, shape)
    rng = np.random.default_rng(0)
    if kind.dtype.kind == "f":
        return rng.random(shape).astype(kind.dtype)
    return rng.integers(0, 2, shape).astype(kind.dtype)


# -- files -------------------------------------------------------------------------------------


def _read(
    name: str, kind: DataType, shape: tuple[int, ...], folder: Path | None, field: str
) -> Array:
    path = _file(name, folder, field)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", field=field) from error
    if kind is BYTES:
        return _texts(content, shape, path, field)
    size = math.prod(shape) * kind.size_bytes
    if len(content) < size:
        raise ConfigError(
            f"{path} has {len(content)} bytes, and {kind.config_name} of shape {list(shape)} "
            f"takes {size}",
            field=field,
        )
    return np.frombuffer(bytearray(content[:size]), kind.dtype).reshape(shape)


def _file(name: str, folder: Path | None, field: str) -> Path:
    """Where it lies; a name that leads out of the folder is refused before anything is looked at.
    What links lead where is said by whoever fills the repository."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise ConfigError(
            f"'{name}' leads out of the model's folder {FOLDER}; name a file in it", field=field
        )
    if folder is None:
        raise ConfigError(
            f"'{name}' needs a model that is a folder with one called {FOLDER}", field=field
        )
    return folder / FOLDER / name


def _texts(content: bytes, shape: tuple[int, ...], path: Path, field: str) -> Array:
    array: Array = np.empty(math.prod(shape), object)
    start = 0
    for index in range(array.size):
        length = int.from_bytes(content[start : start + 4], "little")
        end = start + 4 + length
        if len(content) < start + 4 or len(content) < end:
            raise ConfigError(
                f"{path} ends within string {index} of {array.size}, each of which has its length "
                "before it, in four bytes",
                field=field,
            )
        array[index] = content[start + 4 : end]
        start = end
    if start != len(content):
        raise ConfigError(
            f"{path} goes on behind the {array.size} strings of shape {list(shape)}", field=field
        )
    return array.reshape(shape)
