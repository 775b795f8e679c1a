"""Which architectures there are: a literal table from the name in a `config.json` to a family.

What a configuration asks for and no family does is refused here or by the family, never ignored.
It refuses to know tensors; a caller that has a checkpoint hands in their names.
"""

import importlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from inferd.engine.models.family import Family
from inferd.engine.models.fields import Fields
from inferd.engine.models.spec import DecoderSpec, WeightSource
from inferd.errors import ConfigError, Unsupported

ARCHITECTURES = {
    "GPT2LMHeadModel": "inferd.engine.models.gpt2:GPT2",
    "Gemma2ForCausalLM": "inferd.engine.models.gemma2:GEMMA2",
    "Gemma3ForCausalLM": "inferd.engine.models.gemma3:GEMMA3",
    "Gemma3ForConditionalGeneration": "inferd.engine.models.gemma3:GEMMA3",
    "LlamaForCausalLM": "inferd.engine.models.llama:LLAMA",
    "MistralForCausalLM": "inferd.engine.models.mistral:MISTRAL",
    "Phi3ForCausalLM": "inferd.engine.models.phi3:PHI3",
    "Qwen2ForCausalLM": "inferd.engine.models.qwen2:QWEN2",
    "Qwen3ForCausalLM": "inferd.engine.models.qwen3:QWEN3",
}
"""Name of an architecture to `module:attribute`, a Family."""

REFUSED = {
    "quantization_config": "quantized checkpoints are not read; take the original one and have it "
    "quantized by --quantization",
    "num_local_experts": "mixtures of experts are not supported",
    "num_experts": "mixtures of experts are not supported",
    "add_cross_attention": "only decoders by themselves are supported",
    "is_encoder_decoder": "only decoders by themselves are supported",
    "use_bidirectional_attention": "only causal attention is supported",
}
"""Fields that no family implements, unless they are null, false or 0."""


def describe(
    model: Path | Mapping[str, object], names: Collection[str] = ()
) -> tuple[DecoderSpec, tuple[WeightSource, ...]]:
    """What the model is, and where each of its weights lies.

    `model` is its folder, or what its `config.json` holds. `names` are the tensors of its
    checkpoint; without them its family's usual names are taken. The end tokens are those of
    `generation_config.json`, if it is there and has any.

    Raises ConfigError for a file that is missing or wrong, and Unsupported, with what there is
    instead, for an architecture or a value that is not implemented.
    """
    fields = read_config(model) if isinstance(model, Path) else Fields(model)
    family = _family(fields)
    _refuse(fields)
    spec = family.read(fields)
    if isinstance(model, Path) and (ids := _end_tokens(model)):
        spec = replace(spec, eos_token_ids=ids)
    return spec, family.sources(spec, names)


def read_config(model_dir: Path) -> Fields:
    """The fields of the folder's `config.json`; raises ConfigError when there is none."""
    return _read(model_dir / "config.json")


def stated_dtype(fields: Fields) -> str | None:
    """The dtype that the configuration says the weights have ("bfloat16"), None if it does not."""
    text = fields.inner("text_config")
    for place in (fields, text):
        for name in ("dtype", "torch_dtype"):
            if name in place:
                return place.text(name).removeprefix("torch.")
    return None


def _family(fields: Fields) -> Family:
    architectures = fields.texts("architectures")
    target = next((ARCHITECTURES[name] for name in architectures if name in ARCHITECTURES), None)
    if target is None:
        named = " or ".join(f"'{name}'" for name in architectures) or "none"
        raise Unsupported(
            f"{fields.file}: architectures: {named} is not supported; supported are: "
            + ", ".join(sorted(ARCHITECTURES))
        )
    module, _, attribute = target.partition(":")
    family: Family = getattr(importlib.import_module(module), attribute)
    return family


def _refuse(fields: Fields) -> None:
    for place in (fields, fields.inner("text_config")):
        for name, why in REFUSED.items():
            if place.on(name):
                raise place.unsupported(name, why)


def _end_tokens(model_dir: Path) -> tuple[int, ...]:
    path = model_dir / "generation_config.json"
    return _read(path).token_ids("eos_token_id") if path.exists() else ()


def _read(path: Path) -> Fields:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        message = "there is no such file; is this a model's folder?"
        raise ConfigError(message, file=str(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot be read as JSON: {error}", file=str(path)) from error
    if not isinstance(value, dict):
        raise ConfigError("must hold a JSON object", file=str(path))
    return Fields(value, str(path))
