"""A model in its own shapes, and as its clients know it."""

import numpy as np
import pytest
from yaml import safe_load

from inferd.backends.base import ModelDescription
from inferd.backends.completion import complete
from inferd.backends.shaping import has_layout, laid_out, own_config, refuse_layout
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config
from inferd.types.datatype import FP32, INT32
from inferd.types.signature import Signature
from inferd.types.tensor import TensorSpec

RAGGED = """
max_batch_size: 8
input:
- {name: INPUT, data_type: TYPE_FP32, dims: [-1], allow_ragged_batch: true}
- {name: x, data_type: TYPE_FP32, dims: [2, 2], reshape: {shape: [4]}}
output:
- {name: y, data_type: TYPE_FP32, dims: [1], reshape: {shape: []}}
- {name: cut, data_type: TYPE_FP32, dims: [-1]}
batch_input:
- {kind: BATCH_ITEM_SHAPE, target_name: [shapes], data_type: TYPE_INT32, source_input: [INPUT]}
- {kind: BATCH_ELEMENT_COUNT, target_name: [n, m], data_type: TYPE_FP32, source_input: [INPUT]}
batch_output:
- {target_name: [cut], source_input: [INPUT]}
"""

OWN_INPUTS = [
    TensorSpec("x", FP32, (-1, 4)),
    TensorSpec("shapes", INT32, (-1, -1)),
    TensorSpec("n", FP32, (-1,)),
    TensorSpec("m", FP32, (-1,)),
    TensorSpec("INPUT", FP32, (-1,)),
]
OWN_OUTPUTS = [TensorSpec("cut", FP32, (-1,)), TensorSpec("y", FP32, (-1,))]


def read(text: str) -> ModelConfig:
    return decode_model_config(safe_load(text), file="config.yaml")


def own(
    config: ModelConfig, inputs: list[TensorSpec] = OWN_INPUTS,
    outputs: list[TensorSpec] = OWN_OUTPUTS,
) -> ModelDescription:  # fmt: skip
    return complete(own_config(config), "p", "b", inputs, outputs, config.max_batch_size or 0)


def test_a_model_is_opened_in_its_own_shapes_with_what_is_made_behind_the_rest() -> None:
    found = own(read(RAGGED))
    assert [(s.name, s.shape) for s in found.inputs] == [
        ("INPUT", (-1,)), ("x", (-1, 4)), ("shapes", (-1, 1)), ("n", (-1,)), ("m", (-1,)),
    ]  # fmt: skip
    assert [(s.name, s.shape) for s in found.outputs] == [("y", (-1,)), ("cut", (-1,))]


def test_clients_know_what_they_send_and_get() -> None:
    config = read(RAGGED)
    found = laid_out(config, own(config))
    assert [(s.name, s.shape) for s in found.inputs] == [("INPUT", (-1, -1)), ("x", (-1, 2, 2))]
    assert [(s.name, s.shape) for s in found.outputs] == [("y", (-1, 1)), ("cut", (-1, -1))]
    assert found.layout is not None
    assert found.layout.ragged == {0}


def test_the_layout_makes_what_the_model_takes() -> None:
    config = read(RAGGED)
    layout = laid_out(config, own(config)).layout
    assert layout is not None
    requests = [
        [np.ones((1, 3), np.float32), np.ones((1, 2, 2), np.float32)],
        [np.ones((1, 2), np.float32), np.ones((1, 2, 2), np.float32)],
    ]
    ragged, x, shapes, n, m = layout.merge(requests)
    assert (ragged.shape, x.shape) == ((5,), (2, 4))
    assert shapes.tolist() == [[3], [2]]
    assert n.tolist() == m.tolist() == [3, 2]
    parts = layout.split([np.arange(2.0), np.arange(5.0)], requests, [1, 1])
    assert [[a.tolist() for a in part] for part in parts] == [
        [[[0]], [[0, 1, 2]]], [[[1]], [[3, 4]]],
    ]  # fmt: skip


def test_a_plain_configuration_has_no_layout() -> None:
    plain = read("{max_batch_size: 8, input: [{name: x, data_type: TYPE_FP32, dims: [4]}]}")
    assert not has_layout(plain)
    assert has_layout(read(RAGGED))
    refuse_layout(plain, "never")


def changed(name: str, *shape: int, **kinds: object) -> list[TensorSpec]:
    return [
        TensorSpec(s.name, INT32 if kinds else s.datatype, shape) if s.name == name else s
        for s in OWN_INPUTS
    ]


@pytest.mark.parametrize(
    ("inputs", "field", "words"),
    [
        (changed("INPUT", -1, -1), "input.allow_ragged_batch", "has shape [-1, -1]"),
        (changed("x", -1, 2, 2), "input.reshape", "shape [-1, 4] by its reshape, but"),
        (changed("shapes", -1), "batch_input.kind", "(BATCH_ITEM_SHAPE)"),
        (changed("shapes", -1, 2), "batch_input.kind", "made with shape [-1, 1]"),
        (changed("n", -1, 1), "batch_input.kind", "(BATCH_ELEMENT_COUNT)"),
        (changed("n", -1, kind=INT32), "batch_input.data_type", "'n' is TYPE_FP32"),
        (OWN_INPUTS[1:], "input", "has no 'x'"),
        ([s for s in OWN_INPUTS if s.name != "m"], "batch_input.target_name", "has no 'm'"),
    ],
)
def test_what_the_model_has_otherwise_is_named(
    inputs: list[TensorSpec], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        own(read(RAGGED), inputs)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_without_a_word_on_batches_each_ragged_request_runs_alone() -> None:
    """As in Triton, whose default is no batching: there is nothing to try out."""
    config = read("{input: [{name: INPUT, data_type: TYPE_FP32, dims: [2, -1], "
                  "allow_ragged_batch: true}]}")  # fmt: skip
    assert own_config(config).max_batch_size == 0
    found = laid_out(config, own(config, [OWN_INPUTS[4]], []))
    assert (found.max_batch_size, found.inputs[0].shape) == (0, (2, -1))
    assert "max_batch_size has to be said" in found.notes[0]
    assert found.layout is not None
    assert found.layout.merge([[np.ones((2, 3), np.float32)]])[0].shape == (6,)


def test_an_output_that_is_cut_need_not_have_rows() -> None:
    """Its first dimension may even be fixed: all that counts is how many elements come."""
    outputs = [TensorSpec("cut", FP32, (3, 4)), OWN_OUTPUTS[1]]
    config = read(RAGGED)
    found = laid_out(config, own(config, outputs=outputs))
    assert found.outputs[1].shape == (-1, -1)


def test_an_author_who_says_what_tensors_are_has_nothing_before_them() -> None:
    config = read("{max_batch_size: 8, input: [{name: x, data_type: TYPE_FP32, dims: [2, 2], "
                  "reshape: {shape: [4]}}]}")  # fmt: skip
    described = ModelDescription(
        "p", "b", 8, (OWN_INPUTS[0],), (), signature=Signature(inputs=(), outputs=())
    )
    with pytest.raises(ConfigError, match=r"input.reshape: is not for this model"):
        laid_out(config, described)


def test_an_input_that_the_model_needs_is_not_optional() -> None:
    config = read("{max_batch_size: 8, input: [{name: x, data_type: TYPE_FP32, dims: [4], "
                  "optional: true}]}")  # fmt: skip
    found = own(config, [OWN_INPUTS[0]], [])
    assert not found.inputs[0].optional
    assert "input.optional of 'x': the model needs it" in found.notes[0]
