"""A model of sequences: the batcher that its configuration asks for, and the states that its
sequences begin with. Blocks where a state is read from a file.
"""

import asyncio
import math
from pathlib import Path

import numpy as np

from inferd.backends.base import ModelDescription
from inferd.batching.policy import BatchPolicy
from inferd.batching.sequences.batcher import SequenceBatcher
from inferd.batching.sequences.filling import Filling, State
from inferd.batching.sequences.instance import SequenceRunner
from inferd.batching.sequences.strategy import Direct, Oldest, Strategy
from inferd.batching.sequences.table import SequenceTable
from inferd.config.model import ModelConfig
from inferd.config.scheduling import (
    ModelSequenceBatching,
    SequenceInitialState,
    SequenceState,
    StrategyDirect,
)
from inferd.config.sequence_tensors import (
    DEFAULT_MAX_SEQUENCE_IDLE_US,
    controls,
    filled_specs,
    is_iterative,
    kept_specs,
    state_input_specs,
    state_output_specs,
)
from inferd.errors import ConfigError
from inferd.observability.statistics import ModelStatistics
from inferd.types.datatype import BYTES
from inferd.types.tensor import Array, TensorSpec

INITIAL_STATE_FOLDER = "initial_state"

_FIELD = "sequence_batching"


def client_specs(
    config: ModelConfig, description: ModelDescription
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs that clients send and the outputs that they get: all but those that the server
    fills and keeps. Raises ConfigError where the model does not have these."""
    if config.sequence_batching is None:
        return description.inputs, description.outputs
    batched = description.max_batch_size > 0
    left = []
    for field, specs, own in (
        ("control_input", description.inputs, filled_specs(config, batched)),
        ("state", description.outputs, kept_specs(config, batched)),
    ):
        split = len(specs) - len(own)
        if [spec.name for spec in specs[max(0, split) :]] != [spec.name for spec in own]:
            raise ConfigError(
                f"the model does not have {', '.join(spec.name for spec in own)}",
                field=f"{_FIELD}.{field}",
            )
        left.append(specs[:split])
    return left[0], left[1]


def sequence_batcher(
    config: ModelConfig, path: Path, description: ModelDescription, runners: list[SequenceRunner],
    outputs: tuple[TensorSpec, ...], statistics: ModelStatistics, max_queue_size: int,
    loop: asyncio.AbstractEventLoop, name: str, version: str,
) -> SequenceBatcher:  # fmt: skip
    """The batcher of a model whose files are at `path`; raises ConfigError."""
    batching = config.sequence_batching
    assert batching is not None
    size = description.max_batch_size
    _check(config, batching, size)
    slots = max(1, size)
    if batching.oldest is not None:
        slots = batching.oldest.max_candidate_sequences or slots
    idle_us = batching.max_sequence_idle_microseconds or DEFAULT_MAX_SEQUENCE_IDLE_US
    states = tuple(
        State(_initial(path, state, spec), _place(description, state), out)
        for state, spec, out in zip(
            batching.state, state_input_specs(config, size > 0),
            state_output_specs(config, size > 0), strict=True,
        )
    )  # fmt: skip
    return SequenceBatcher(
        SequenceTable(len(runners), slots, idle_us * 1000, max_queue_size),
        [_strategy(batching, size) for _ in runners],
        Filling(controls(batching), states, size > 0),
        outputs, runners, statistics, loop, name, version, is_iterative(config),
        batching.oldest is not None and batching.oldest.preserve_ordering,
    )  # fmt: skip


def _strategy(batching: ModelSequenceBatching, size: int) -> Strategy:
    oldest = batching.oldest
    if oldest is not None:
        delay_ns = oldest.max_queue_delay_microseconds * 1000
        return Oldest(BatchPolicy(size, oldest.preferred_batch_size, delay_ns))
    direct = batching.direct or StrategyDirect()
    delay_ns = direct.max_queue_delay_microseconds * 1000
    return Direct(max(1, size), delay_ns, direct.minimum_slot_utilization)


def _check(config: ModelConfig, batching: ModelSequenceBatching, size: int) -> None:
    if config.dynamic_batching is not None:
        raise ConfigError("a model has this or dynamic_batching, not both", field=_FIELD)
    if batching.direct is not None and batching.oldest is not None:
        raise ConfigError("set direct or oldest, not both", field=_FIELD)
    for preferred in batching.oldest.preferred_batch_size if batching.oldest else ():
        if preferred > size:
            raise ConfigError(
                f"{preferred} is over max_batch_size {size}",
                field=f"{_FIELD}.oldest.preferred_batch_size",
            )
    for field in ("input_name", "output_name"):
        names = [getattr(state, field) for state in batching.state]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two states have '{name}'", field=f"{_FIELD}.state.{field}")


def _place(description: ModelDescription, state: SequenceState) -> int:
    names = [spec.name for spec in description.outputs]
    if state.output_name not in names:
        raise ConfigError(
            f"the model has no output '{state.output_name}'; it has: {', '.join(names)}",
            field=f"{_FIELD}.state.output_name",
        )
    return names.index(state.output_name)


# -- initial states ----------------------------------------------------------------------------


def _initial(path: Path, state: SequenceState, spec: TensorSpec) -> Array:
    """The state that sequences begin with, shaped as the model takes it. Free dimensions of one
    that is not given are 1, as in Triton."""
    batch = spec.shape[: len(spec.shape) - len(state.dims)] and (1,)
    field = f"{_FIELD}.state.initial_state"
    if not state.initial_state:
        return _zeros((*batch, *[1 if dim < 0 else dim for dim in state.dims]), spec)
    if len(state.initial_state) > 1:
        raise ConfigError(f"'{state.input_name}' has more than one", field=field)
    said = state.initial_state[0]
    if said.data_type != state.data_type:
        raise ConfigError(
            f"is {said.data_type}, the state '{state.input_name}' is {state.data_type}",
            field=f"{field}.data_type",
        )
    fits = len(said.dims) == len(state.dims) and all(
        mine >= 0 and theirs in (-1, mine)
        for mine, theirs in zip(said.dims, state.dims, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"are {list(said.dims)}, the state '{state.input_name}' has {list(state.dims)}; "
            "those of an initial state are all set",
            field=f"{field}.dims",
        )
    if said.zero_data == bool(said.data_file):
        raise ConfigError(
            f"of '{state.input_name}' is zero_data or a data_file, and one of them", field=field
        )
    shape = (*batch, *said.dims)
    return _from_file(path, said, spec, shape) if said.data_file else _zeros(shape, spec)


def _zeros(shape: tuple[int, ...], spec: TensorSpec) -> Array:
    return np.full(shape, b"" if spec.datatype is BYTES else 0, spec.datatype.dtype)


def _from_file(
    path: Path, said: SequenceInitialState, spec: TensorSpec, shape: tuple[int, ...]
) -> Array:
    field = f"{_FIELD}.state.initial_state.data_file"
    data = _read(path, said.data_file, field)
    count = math.prod(shape)
    if spec.datatype is BYTES:
        return _texts(data, said.data_file, field, shape)
    size = count * spec.datatype.size_bytes
    if len(data) < size:
        raise ConfigError(
            f"initial_state setting expects {size} bytes, but '{said.data_file}' only has "
            f"{len(data)} bytes",
            field=field,
        )
    return np.frombuffer(data, spec.datatype.dtype, count).reshape(shape)


def _read(path: Path, name: str, field: str) -> bytes:
    """A file of the model's folder for states, and of no other."""
    for parent in (path, *path.parents[:2]):
        folder = parent / INITIAL_STATE_FOLDER
        if folder.is_dir():
            file = (folder / name).resolve()
            if not file.is_relative_to(folder.resolve()):
                raise ConfigError(f"'{name}' is not in the folder {folder}", field=field)
            try:
                return file.read_bytes()
            except OSError as error:
                raise ConfigError(f"cannot read {file}: {error.strerror}", field=field) from error
    raise ConfigError(
        f"is '{name}', but the model has no folder {INITIAL_STATE_FOLDER}", field=field
    )


def _texts(data: bytes, name: str, field: str, shape: tuple[int, ...]) -> Array:
    """Elements with their lengths before them, four bytes each."""
    array: Array = np.empty(math.prod(shape), object)
    start = 0
    for index in range(len(array)):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or end > len(data):
            raise ConfigError(
                f"'{name}' has {index} elements, expected {len(array)}, each behind its length in "
                "four bytes",
                field=field,
            )
        array[index] = data[start + 4 : end]
        start = end
    return array.reshape(shape)
