"""A tiny Llama on disk, with random weights and a tokenizer of its own: made in a moment, without
torch. What it says is noise, and always the same noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from engine.text.vocabularies import SPECIAL, byte_level_core

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 4, 2
MAX_LEN = 256
EOS = SPECIAL.index("</s>")
TEMPLATE = (
    "<s>{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_llama(folder: Path, **files: Any) -> Path:
    """The folder, as transformers would save it; `files` are further JSON files by stem."""
    folder.mkdir(parents=True, exist_ok=True)
    core = byte_level_core()
    vocab = core.get_vocab_size()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab,
        "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": MAX_LEN, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "bos_token_id": 0, "eos_token_id": EOS, "torch_dtype": "float32",
    }  # fmt: skip
    tokenizer = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    core.save(str(folder / "tokenizer.json"))
    for stem, content in ({"config": config, "tokenizer_config": tokenizer} | files).items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    save_file(_weights(vocab), folder / "model.safetensors")
    return folder


def _weights(vocab: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    head = HIDDEN // HEADS

    def matrix(rows: int, columns: int) -> Any:
        return (0.15 * rng.standard_normal((rows, columns))).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(vocab, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": matrix(vocab, HIDDEN),
    }
    for number in range(LAYERS):
        layer = f"model.layers.{number}."
        weights |= {
            f"{layer}input_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{layer}post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{layer}self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{layer}self_attn.k_proj.weight": matrix(KV_HEADS * head, HIDDEN),
            f"{layer}self_attn.v_proj.weight": matrix(KV_HEADS * head, HIDDEN),
            f"{layer}self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{layer}mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{layer}mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{layer}mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
        }
    return weights
