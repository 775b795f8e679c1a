"""The tensors of a sequence model that the server fills and keeps: control inputs, which say where
in its sequence a request stands, and states, which are outputs of one request and inputs of the
next. Clients send none of them, and no metadata lists them.

Pure. In a model's description they stand behind what clients send, in the order of `filled_specs`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import (
    ModelSequenceBatching,
    SequenceControl,
    SequenceControlInput,
    SequenceState,
)
from inferd.errors import ConfigError
from inferd.types.datatype import BOOL, CONFIG_DATATYPES, DATATYPES, FP32, INT32, DataType
from inferd.types.tensor import TensorSpec

ControlKind = Literal["START", "READY", "END", "CORRID"]

DEFAULT_MAX_SEQUENCE_IDLE_US = 1_000_000
"""How long a sequence may be silent where the configuration does not say; Triton's default."""

_FIELD = "sequence_batching.control_input"
_CORRID_TYPES = ("UINT64", "INT64", "UINT32", "INT32", "BYTES")


@dataclass(frozen=True, slots=True)
class Control:
    """A control input: the values for no and yes, or, of CORRID, the type of the correlation id."""

    kind: ControlKind
    name: str
    datatype: DataType
    no: float = 0
    yes: float = 1


def controls(batching: ModelSequenceBatching | None) -> tuple[Control, ...]:
    """The control inputs in the order of the configuration; raises ConfigError."""
    found = tuple(_control(entry) for entry in batching.control_input) if batching else ()
    for field in ("name", "kind"):
        values = [getattr(control, field) for control in found]
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(f"two control inputs have the {field} '{value}'", field=_FIELD)
    return found


def control_specs(config: ModelConfig, batched: bool) -> tuple[TensorSpec, ...]:
    """The control inputs as tensors: one value, behind the batch dimension if there is one."""
    shape = (-1, 1) if batched else (1,)
    found = controls(config.sequence_batching)
    return tuple(TensorSpec(control.name, control.datatype, shape) for control in found)


def state_input_specs(config: ModelConfig, batched: bool) -> tuple[TensorSpec, ...]:
    """The inputs that are states."""
    return tuple(
        TensorSpec(state.input_name, CONFIG_DATATYPES[state.data_type], _shape(state.dims, batched))
        for state in _states(config)
    )


def state_output_specs(config: ModelConfig, batched: bool) -> tuple[TensorSpec, ...]:
    """The outputs that are states."""
    return tuple(
        TensorSpec(
            state.output_name, CONFIG_DATATYPES[state.data_type], _shape(state.dims, batched)
        )
        for state in _states(config)
    )


def filled_specs(config: ModelConfig, batched: bool) -> tuple[TensorSpec, ...]:
    """All inputs that the server fills: controls, then states; raises ConfigError."""
    return control_specs(config, batched) + state_input_specs(config, batched)


def kept_specs(config: ModelConfig, batched: bool) -> tuple[TensorSpec, ...]:
    """The outputs that are states and nothing else: those that the configuration does not also
    list as outputs."""
    listed = {output.name for output in config.output}
    return tuple(s for s in state_output_specs(config, batched) if s.name not in listed)


def is_iterative(config: ModelConfig) -> bool:
    """Whether a request is run again until its model has done with it."""
    batching = config.sequence_batching
    return batching is not None and (batching.iterative_sequence or batching.generative_sequence)


def with_own_tensors(config: ModelConfig) -> ModelConfig:
    """The configuration with the server's tensors listed like all others: for backends that learn
    from it what a model's tensors are called."""
    batched = bool(config.max_batch_size)
    filled, kept = filled_specs(config, batched), kept_specs(config, batched)
    if not filled or not config.input:
        return config
    inputs = [ModelInput(**_entry(spec, batched)) for spec in filled]
    outputs = [ModelOutput(**_entry(spec, batched)) for spec in kept]
    return msgspec.structs.replace(
        config, input=(*config.input, *inputs), output=(*config.output, *outputs)
    )


def _entry(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    dims = spec.shape[batched:]
    return {"name": spec.name, "data_type": spec.datatype.config_name, "dims": dims}


def _states(config: ModelConfig) -> tuple[SequenceState, ...]:
    return config.sequence_batching.state if config.sequence_batching else ()


def _shape(dims: tuple[int, ...], batched: bool) -> tuple[int, ...]:
    return (-1, *dims) if batched else dims


def _control(entry: SequenceControlInput) -> Control:
    if len(entry.control) != 1:
        raise ConfigError(
            f"'{entry.name}' has {len(entry.control)} controls, an input has exactly one",
            field=f"{_FIELD}.control",
        )
    control = entry.control[0]
    pairs = {
        "int32_false_true": (INT32, control.int32_false_true),
        "fp32_false_true": (FP32, control.fp32_false_true),
        "bool_false_true": (BOOL, control.bool_false_true),
    }
    given = [(name, *pair) for name, pair in pairs.items() if pair[1]]
    if control.kind == "CONTROL_SEQUENCE_CORRID":
        return Control("CORRID", entry.name, _corrid_type(entry.name, control, bool(given)))
    if len(given) != 1:
        raise ConfigError(
            f"sequence batching must specify either {' or '.join(map(repr, pairs))} for "
            f"{control.kind}, and only one of them, in '{entry.name}'",
            field=f"{_FIELD}.control",
        )
    name, datatype, values = given[0]
    if len(values) != 2:
        raise ConfigError(
            f"sequence batching control '{name}' must have exactly 2 entries for {control.kind}, "
            f"'{entry.name}' has {len(values)}",
            field=f"{_FIELD}.control.{name}",
        )
    return Control(_KINDS[control.kind], entry.name, datatype, *values)


_KINDS: dict[str, ControlKind] = {
    "CONTROL_SEQUENCE_START": "START",
    "CONTROL_SEQUENCE_READY": "READY",
    "CONTROL_SEQUENCE_END": "END",
}


def _corrid_type(name: str, control: SequenceControl, pairs: bool) -> DataType:
    if pairs:
        raise ConfigError(
            f"'{name}' is a correlation id and has no false and true; set data_type alone",
            field=f"{_FIELD}.control",
        )
    datatype = CONFIG_DATATYPES.get(control.data_type)
    if datatype is None or datatype.name not in _CORRID_TYPES:
        expected = ", ".join(DATATYPES[t].config_name for t in _CORRID_TYPES)
        raise ConfigError(
            f"unexpected control data type {control.data_type} in '{name}', expected {expected}",
            field=f"{_FIELD}.control.data_type",
        )
    return datatype
