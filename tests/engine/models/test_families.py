"""What each family's file reads out of a configuration, beyond what parity tests show."""

from typing import Any

import pytest

from engine.checkpoints import WINDOW, config, folder
from inferd.engine.models.registry import describe
from inferd.engine.models.spec import DecoderSpec
from inferd.errors import ConfigError, Unsupported


def read(name: str, without: tuple[str, ...] = (), **changes: Any) -> DecoderSpec:
    """The spec of model `name` with a changed configuration."""
    held = {k: v for k, v in config(folder(name)).items() if k not in without}
    return describe(held | changes)[0]


def windows(spec: DecoderSpec) -> list[int]:
    return [layer.attention.window for layer in spec.layers]


def test_llama_shares_hidden_among_heads_without_a_head_dim() -> None:
    stated = config(folder("llama"))["head_dim"]
    assert read("llama").layers[0].attention.head_dim == stated != 16
    plain = read("llama", head_dim=None, num_key_value_heads=None).layers[0].attention
    assert plain.head_dim == 16
    assert plain.num_kv_heads == 4
    assert plain.scale == 0.25


def test_llama_has_biases_only_if_asked() -> None:
    full, plain = read("llama").layers[0], read("llama-plain").layers[0]
    assert full.attention.qkv_bias
    assert full.attention.output_bias
    assert full.mlp.bias
    assert not plain.attention.qkv_bias
    assert not plain.attention.output_bias
    assert not plain.mlp.bias


def test_mistral_slides_unless_told_not_to() -> None:
    assert windows(read("mistral")) == [WINDOW] * 3
    assert windows(read("mistral", sliding_window=None)) == [0] * 3
    assert windows(read("mistral", without=("sliding_window",))) == [4096] * 3


def test_qwen2_slides_in_upper_layers_if_it_is_on() -> None:
    assert windows(read("qwen2")) == [0, WINDOW, WINDOW]
    bare = ("layer_types",)
    assert windows(read("qwen2", bare)) == [0, WINDOW, WINDOW]
    assert windows(read("qwen2", bare, use_sliding_window=False)) == [0, 0, 0]
    assert windows(read("qwen2", bare, max_window_layers=2)) == [0, 0, WINDOW]
    types = ["sliding_attention", "full_attention", "full_attention"]
    assert windows(read("qwen2", layer_types=types)) == [WINDOW, 0, 0]
    with pytest.raises(ConfigError, match="use_sliding_window is off"):
        read("qwen2", layer_types=types, use_sliding_window=False)


def test_gemma2_slides_in_every_other_layer() -> None:
    assert windows(read("gemma2", without=("layer_types",))) == [WINDOW, 0, WINDOW]
    assert read("gemma2").layers[0].attention.scale == 10**-0.5
    assert read("gemma2").embedding_scale == 8.0
    assert read("gemma2", without=("tie_word_embeddings",)).tie_word_embeddings


@pytest.mark.parametrize("field", ["sliding_window_pattern", "_sliding_window_pattern"])
def test_gemma3_slides_by_pattern_or_by_layer_types(field: str) -> None:
    spec = read("gemma3", without=("layer_types", "_sliding_window_pattern"), **{field: 2})
    assert windows(spec) == [WINDOW, 0, WINDOW, 0]


def test_gpt2_divides_scores_by_layer_if_asked() -> None:
    scales = [layer.attention.scale for layer in read("gpt2").layers]
    assert scales == pytest.approx([0.25, 0.125, 0.25 / 3])
    plain = read("gpt2", scale_attn_by_inverse_layer_idx=False, scale_attn_weights=False)
    assert [layer.attention.scale for layer in plain.layers] == [1.0] * 3


def test_gpt2_is_read_with_and_without_the_prefix() -> None:
    held = config(folder("gpt2"))
    parts = {part for source in describe(held)[1] for part in source.parts}
    assert all(part.startswith("transformer.") for part in parts)
    bare = {part.removeprefix("transformer.") for part in parts}
    assert {part for source in describe(held, bare)[1] for part in source.parts} == bare


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_attention_heads": 5, "head_dim": None}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"vocab_size": None}, "vocab_size"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("llama", **changes)
    assert caught.value.field == field


def test_layer_types_are_checked() -> None:
    with pytest.raises(ConfigError, match="layer_types: has 1 entries for 3 layers"):
        read("gemma2", layer_types=["full_attention"])
    with pytest.raises(Unsupported, match="layer_types: 'linear_attention' is not supported"):
        read("gemma2", layer_types=["linear_attention"] * 3)
