from typing import Any

import msgspec
import pytest

from inferd.config.model import ModelConfig
from inferd.config.sequence_tensors import (
    control_specs,
    controls,
    filled_specs,
    is_iterative,
    kept_specs,
    state_output_specs,
)
from inferd.errors import ConfigError


def config(*control_input: dict[str, Any], **more: Any) -> ModelConfig:
    batching = {"control_input": control_input, **more.pop("batching", {})}
    return msgspec.convert({"sequence_batching": batching, **more}, ModelConfig)


def control(name: str, kind: str, **said: Any) -> dict[str, Any]:
    return {"name": name, "control": [{"kind": f"CONTROL_SEQUENCE_{kind}", **said}]}


START = control("START", "START", int32_false_true=[0, 1])
STATE = {
    "input_name": "in", "output_name": "out", "data_type": "TYPE_FP32", "dims": [2, -1],
}  # fmt: skip


def test_controls_have_the_type_and_the_values_that_the_configuration_says() -> None:
    found = control_specs(
        config(
            START,
            control("R", "READY", fp32_false_true=[-1, 2.5]),
            control("E", "END", bool_false_true=[False, True]),
            control("ID", "CORRID", data_type="TYPE_STRING"),
        ),
        True,
    )
    assert [(s.name, s.datatype.name, s.shape) for s in found] == [
        ("START", "INT32", (-1, 1)), ("R", "FP32", (-1, 1)), ("E", "BOOL", (-1, 1)),
        ("ID", "BYTES", (-1, 1)),
    ]  # fmt: skip


def test_values_of_no_and_yes_are_kept() -> None:
    made = config(control("R", "READY", fp32_false_true=[-1, 2.5]))
    (only,) = controls(made.sequence_batching)
    assert (only.kind, only.no, only.yes) == ("READY", -1, 2.5)


def test_without_batches_there_is_no_batch_dimension() -> None:
    made = config(START, batching={"state": [STATE]})
    assert [s.shape for s in filled_specs(made, False)] == [(1,), (2, -1)]
    assert [s.shape for s in filled_specs(made, True)] == [(-1, 1), (-1, 2, -1)]


def test_a_state_that_is_listed_as_an_output_is_also_one() -> None:
    output = {"name": "out", "data_type": "TYPE_FP32", "dims": [2, -1]}
    kept = config(batching={"state": [STATE]})
    told = config(batching={"state": [STATE]}, output=[output])
    assert [s.name for s in kept_specs(kept, True)] == ["out"]
    assert kept_specs(told, True) == ()
    assert state_output_specs(kept, True) == state_output_specs(told, True)


def test_a_model_without_sequences_has_none_of_it() -> None:
    assert filled_specs(ModelConfig(), True) == ()
    assert not is_iterative(ModelConfig())


@pytest.mark.parametrize("name", ["iterative_sequence", "generative_sequence"])
def test_both_names_of_iterative_sequences(name: str) -> None:
    assert is_iterative(config(batching={name: True}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "S", "control": []}], "'S' has 0 controls"),
        ([control("S", "START")], "must specify either 'int32_false_true' or"),
        ([control("S", "END", int32_false_true=[0, 1], fp32_false_true=[0, 1])], "only one"),
        ([control("S", "START", int32_false_true=[0])], "must have exactly 2 entries"),
        ([START, control("S", "START", int32_false_true=[0, 1])], "the kind 'START'"),
        ([START, control("START", "END", int32_false_true=[0, 1])], "the name 'START'"),
        ([control("ID", "CORRID")], "unexpected control data type TYPE_INVALID in 'ID'"),
        ([control("ID", "CORRID", data_type="TYPE_FP32")], "unexpected control data type"),
        ([control("ID", "CORRID", data_type="TYPE_INT64", int32_false_true=[0, 1])], "no false"),
    ],
)  # fmt: skip
def test_controls_that_make_no_sense_are_refused(
    entries: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"sequence_batching\.control_input") as error:
        filled_specs(config(*entries), True)
    assert message in str(error.value)
