import json
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints import FAMILIES, MODELS, as_transformers_4, config, copied, folder
from inferd.engine.models.fields import Fields
from inferd.engine.models.registry import ARCHITECTURES, describe, read_config, stated_dtype
from inferd.errors import ConfigError, InferdError, Unsupported


def write(path: Path, file: str, value: object) -> None:
    (path / file).write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_both_spellings_describe_the_same_model(name: str) -> None:
    new = config(folder(name))
    assert describe(as_transformers_4(new)) == describe(new)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_is_found_by_its_architecture(name: str) -> None:
    spec, sources = describe(folder(name))
    assert spec.family == name
    assert spec.bos_token_id == 1
    assert spec.eos_token_ids == (2,)
    assert len({source.name for source in sources}) == len(sources)


def test_an_unsupported_architecture_is_told_with_those_there_are() -> None:
    with pytest.raises(Unsupported) as caught:
        describe({"architectures": ["MixtralForCausalLM"]})
    assert "architectures: 'MixtralForCausalLM' is not supported" in str(caught.value)
    assert all(name in str(caught.value) for name in ARCHITECTURES)
    with pytest.raises(Unsupported, match="architectures: none is not supported"):
        describe({})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantization_config", {"quant_method": "gptq"}),
        ("num_local_experts", 8),
        ("num_experts", 4),
        ("use_bidirectional_attention", True),
        ("hidden_act", "relu6"),
    ],
)
def test_a_value_that_is_not_implemented_is_named(field: str, value: object) -> None:
    given = config(folder("llama")) | {field: value}
    with pytest.raises(Unsupported, match=f"config.json: {field}: "):
        describe(given)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_field_of_a_wrong_type_is_told_by_its_name(name: str) -> None:
    """Every field that is read is checked: nothing but an error of ours comes out."""
    given = config(folder(name))
    for field in given:
        for wrong in ("wrong", -1, [None], {"a": 1}):
            told = ""
            try:
                describe(given | {field: wrong})
            except InferdError as error:
                told = str(error)
            assert not told or field in told


def test_end_tokens_of_the_generation_config_win(tmp_path: Path) -> None:
    path = copied("llama", tmp_path)
    write(path, "generation_config.json", {"eos_token_id": [5, 6]})
    assert describe(path)[0].eos_token_ids == (5, 6)
    write(path, "generation_config.json", {"eos_token_id": 9})
    assert describe(path)[0].eos_token_ids == (9,)
    write(path, "generation_config.json", {"eos_token_id": None})
    assert describe(path)[0].eos_token_ids == (2,)
    write(path, "generation_config.json", {"eos_token_id": "x"})
    with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id"):
        describe(path)


def test_a_file_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        describe(tmp_path)
    assert caught.value.file == str(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match="JSON"):
        describe(tmp_path)
    write(tmp_path, "config.json", [1])
    with pytest.raises(ConfigError, match="JSON object"):
        describe(tmp_path)


def test_the_dtype_is_what_the_configuration_states() -> None:
    assert stated_dtype(read_config(folder("llama"))) == "float32"
    assert stated_dtype(Fields({"torch_dtype": "bfloat16"})) == "bfloat16"
    assert stated_dtype(Fields({"text_config": {"dtype": "torch.float16"}})) == "float16"
    assert stated_dtype(Fields({})) is None


def test_a_text_model_inside_a_multimodal_one_is_the_same() -> None:
    text = config(folder("gemma3"))
    nested: dict[str, Any] = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {k: v for k, v in text.items() if k != "eos_token_id"},
        "eos_token_id": [2],
    }
    alone, sources = describe(text)
    names = {f"language_model.{part}" for source in sources for part in source.parts}
    spec, nested_sources = describe(nested, names)
    assert spec == alone
    assert {part for source in nested_sources for part in source.parts} == names


def test_published_gemma3_configurations_leave_much_out() -> None:
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 12,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    spec, _ = describe({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text})
    windows = [layer.attention.window for layer in spec.layers]
    assert windows == ([1024] * 5 + [0]) * 2
    local, full = (spec.layers[i].attention.rotary for i in (0, 5))
    assert local is not None
    assert full is not None
    assert local.inv_freq[0] == 1.0
    assert full.inv_freq[0] == 1 / 8
    assert local.inv_freq[64] == pytest.approx(1e-2)
    assert full.inv_freq[64] == pytest.approx(1e-3 / 8)
    assert spec.vocab_size == 262_208
    assert spec.tie_word_embeddings
