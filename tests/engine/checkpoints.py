"""Small random models of every family, saved by transformers, and what it computes with them.

Each is made once in a run of the tests. It refuses to know inferd.
"""

import atexit
import copy
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel

torch.set_num_threads(1)  # these models are too small for more

VOCAB = 300
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 12
"""Shorter than the sequences of the tests, so that it matters."""


def llama(**changes: Any) -> PretrainedConfig:
    return transformers.LlamaConfig(
        **SMALL | {"attention_bias": True, "mlp_bias": True, "head_dim": 48} | changes
    )


def mistral(**changes: Any) -> PretrainedConfig:
    return transformers.MistralConfig(**SMALL | {"sliding_window": WINDOW} | changes)


def qwen2(**changes: Any) -> PretrainedConfig:
    slides = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    return transformers.Qwen2Config(**SMALL | slides | changes)


def qwen3(**changes: Any) -> PretrainedConfig:
    return transformers.Qwen3Config(
        **SMALL | {"head_dim": 32, "tie_word_embeddings": True, "num_key_value_heads": 1} | changes
    )


def gemma2(**changes: Any) -> PretrainedConfig:
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 0.5}
    return transformers.Gemma2Config(
        **SMALL
        | caps
        | {"head_dim": 48, "sliding_window": WINDOW, "query_pre_attn_scalar": 10}
        | changes
    )


def gemma3(**changes: Any) -> PretrainedConfig:
    types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    return transformers.Gemma3TextConfig(
        **SMALL
        | {"head_dim": 48, "sliding_window": WINDOW, "query_pre_attn_scalar": 10}
        | {"num_hidden_layers": 4, "layer_types": types}
        | changes
    )


def phi3(**changes: Any) -> PretrainedConfig:
    angles = 4  # half of a head of 16 is rotated
    scaling = {
        "rope_type": "longrope",
        "short_factor": [1.0 + 0.1 * i for i in range(angles)],
        "long_factor": [2.0 + 0.5 * i for i in range(angles)],
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
        "original_max_position_embeddings": 128,
    }
    return transformers.Phi3Config(
        **SMALL
        | {"sliding_window": 3 * WINDOW, "original_max_position_embeddings": 128}
        | {"rope_parameters": scaling}
        | changes
    )


def gpt2(**changes: Any) -> PretrainedConfig:
    sizes = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    return transformers.GPT2Config(
        **sizes | ids | {"scale_attn_by_inverse_layer_idx": True} | changes
    )


def rope(kind: str, **fields: Any) -> Callable[[], PretrainedConfig]:
    """A Llama whose frequencies are stretched that way."""
    return lambda: llama(
        rope_parameters={"rope_type": kind, "rope_theta": 500.0, "factor": 4.0} | fields
    )


FAMILIES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "phi3": phi3,
    "gpt2": gpt2,
}
"""One model for each family, with everything in it that the family can have."""

SCALINGS: dict[str, Callable[[], PretrainedConfig]] = {
    "rope-linear": rope("linear"),
    "rope-dynamic": rope("dynamic"),
    "rope-llama3": rope(
        "llama3",
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    ),
    "rope-yarn": rope("yarn", original_max_position_embeddings=32),
    "rope-yarn-mscale": rope(
        "yarn",
        original_max_position_embeddings=64,
        beta_fast=4.0,
        beta_slow=0.5,
        mscale=0.7,
        mscale_all_dim=0.3,
        truncate=False,
    ),
}
"""Llamas with each way of stretching the rotary embedding."""

OTHERS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama-plain": lambda: llama(attention_bias=False, mlp_bias=False, head_dim=None),
    "llama-tied": lambda: llama(tie_word_embeddings=True),
    "mistral-full": lambda: mistral(sliding_window=None),
    "qwen2-full": lambda: qwen2(use_sliding_window=False),
    "qwen3-windows": lambda: qwen3(
        use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, attention_bias=True
    ),
    "gemma3-linear": lambda: gemma3(
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
        }
    ),
    "phi3-plain": lambda: phi3(
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        original_max_position_embeddings=256,
        sliding_window=None,
    ),
    "gpt2-untied": lambda: gpt2(tie_word_embeddings=False, n_inner=160),
}
"""Other settings of the families."""

MODELS = FAMILIES | SCALINGS | OTHERS


@functools.cache
def model(name: str) -> PreTrainedModel:
    """Model `name` in float32. Its weights are large enough for every part to show in the logits,
    and norms and biases differ from element to element."""
    config = MODELS[name]()
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    noise = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in made.parameters():
            random = torch.randn(weight.shape, generator=noise)
            if weight.ndim == 1:
                weight.add_(0.3 * random)
            elif weight is made.get_input_embeddings().weight:
                weight.copy_(0.02 * random)  # more, and a tied model repeats its last token
            else:
                weight.copy_(0.25 * random)
    # What is generated here is compared token by token: nothing may end it early.
    made.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return made.float().eval()


@functools.cache
def folder(name: str) -> Path:
    """The folder of model `name`, with one safetensors file. Not to be changed: see `copied`."""
    path = _root() / name
    model(name).save_pretrained(path)
    return path


def copied(name: str, to: Path) -> Path:
    """A copy of a model's folder that a test may change."""
    shutil.copytree(folder(name), to, dirs_exist_ok=True)
    return to


def config(path: Path) -> dict[str, Any]:
    """What the folder's `config.json` holds."""
    held: dict[str, Any] = json.loads((path / "config.json").read_bytes())
    return held


def as_transformers_4(new: dict[str, Any]) -> dict[str, Any]:
    """A configuration in the words of transformers 4."""
    old = copy.deepcopy(new)
    parameters = old.pop("rope_parameters", None)
    if "dtype" in old:
        old["torch_dtype"] = old.pop("dtype")
    if parameters is None:
        return old
    if "sliding_attention" in parameters:
        old["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    old["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        old["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    old["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    return old


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    return np.random.default_rng(seed).integers(3, VOCAB, length).tolist()


def logits(name: str, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Of every token [n, vocab], as transformers computes them without a cache."""
    with torch.inference_mode():
        out = model(name)(torch.tensor([list(tokens)]), use_cache=False)
    found: NDArray[np.float32] = out.logits[0].float().numpy()
    return found


def greedy(name: str, tokens: Sequence[int], count: int) -> list[int]:
    """The next `count` tokens, as transformers generates them with its own cache."""
    start = torch.tensor([list(tokens)])
    out = model(name).generate(
        start, attention_mask=torch.ones_like(start), max_new_tokens=count, do_sample=False
    )
    return out[0, len(tokens) :].tolist()


def continues(name: str, tokens: Sequence[int], generated: Sequence[int]) -> bool:
    """Whether transformers, too, would generate those: each is the likeliest behind those before
    it, so that one run over all of them tells."""
    rows = logits(name, [*tokens, *generated])[len(tokens) - 1 : -1]
    return rows.argmax(-1).tolist() == list(generated)


@functools.cache
def _root() -> Path:
    path = Path(tempfile.mkdtemp(prefix="inferd-models-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
