from typing import Any

import numpy as np
import pytest

from engine.checkpoints import MODELS, SCALINGS, as_transformers_4, config, folder, model
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import longest, rotary
from inferd.errors import ConfigError, Unsupported

PLAIN: dict[str, Any] = {"rope_theta": 100.0, "max_position_embeddings": 64}


def of(head_dim: int = 8, layer_type: str = "full_attention", **changes: Any) -> Any:
    return rotary(Fields(PLAIN | changes), head_dim, layer_type)


def test_plain_frequencies_fall_from_one_by_the_base() -> None:
    assert of().inv_freq == pytest.approx([1.0, 100**-0.25, 100**-0.5, 100**-0.75])
    assert of().attention_factor == 1.0
    assert rotary(Fields({}), 4, theta=16.0).inv_freq == pytest.approx([1.0, 0.25])


@pytest.mark.parametrize("name", sorted(SCALINGS))
def test_each_scaling_equals_transformers(name: str) -> None:
    held = config(folder(name))
    ours = rotary(Fields(held), held["head_dim"])
    theirs: Any = model(name).model.rotary_emb
    np.testing.assert_allclose(ours.inv_freq, theirs.inv_freq, rtol=1e-5)
    assert ours.attention_factor == pytest.approx(theirs.attention_scaling)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("gpt2")])
def test_both_spellings_are_the_same(name: str) -> None:
    new = config(folder(name))
    old = as_transformers_4(new)
    assert "rope_parameters" in new
    assert "rope_parameters" not in old
    for kind in ("full_attention", "sliding_attention"):
        assert rotary(Fields(new), 16, kind) == rotary(Fields(old), 16, kind)
    assert longest(Fields(new)) == longest(Fields(old))


def test_only_a_part_of_a_head_may_be_rotated() -> None:
    assert len(of(partial_rotary_factor=0.5).inv_freq) == 2
    assert of(partial_rotary_factor=0.5).inv_freq == of(4).inv_freq


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_longrope_has_two_sets_of_frequencies(kind: str) -> None:
    scaling = {"type": kind, "short_factor": [1.0, 2.0], "long_factor": [4.0, 8.0]}
    found = of(4, rope_scaling=scaling, original_max_position_embeddings=16)
    assert found.inv_freq == pytest.approx([1.0, 0.05])
    assert found.long_inv_freq == pytest.approx([0.25, 0.0125])
    assert found.long_from == 16
    assert found.attention_factor == pytest.approx(1.5**0.5)  # 64 is 16 ** 1.5


def test_yarn_is_as_long_as_it_stretches_to() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    assert longest(Fields(PLAIN | {"rope_scaling": scaling})) == 256
    assert longest(Fields(PLAIN)) == 64
    assert longest(Fields(PLAIN | {"rope_scaling": {"type": "linear", "factor": 4.0}})) == 64


def test_sliding_layers_may_have_a_base_of_their_own() -> None:
    found = of(4, "sliding_attention", rope_local_base_freq=16.0, rope_scaling={"type": "no"})
    assert found.inv_freq == pytest.approx([1.0, 0.25])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "rope_scaling.low_freq_factor"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_scaling.short_factor"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_parameters": {"sliding_attention": {}}}, "rope_parameters.full_attention"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_parameters.rope_theta"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.1}, "partial_rotary_factor"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rope_scaling": {"type": "mrope"}}, "rope_scaling.type"),
        ({"rope_scaling": {"rope_type": "ntk"}}, "rope_scaling.rope_type"),
        ({"rope_parameters": {"rope_type": "ntk"}}, "rope_parameters.rope_type"),
    ],
)
def test_an_unknown_scaling_is_refused_with_those_there_are(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Unsupported, match=rf"config.json: {field}: .* supported are: default, dyn"):
        of(**changes)
