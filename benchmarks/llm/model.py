"""The model that is measured: a Llama of 1.24 billion parameters with random weights.

The shape is Llama 3.2 1B's with a head of its own. Written here, since nothing is downloaded: a
Hugging Face folder with bfloat16 weights and a byte-level tokenizer.
"""

import json
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 2048, 16, 32, 8, 8192, 128_256
HEAD_DIM = HIDDEN // HEADS
SEED = 11


def config() -> dict[str, object]:
    """What `config.json` says."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "torch_dtype": "bfloat16",
    }


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        found |= {
            f"{name}self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{name}self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{name}self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{name}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{name}mlp.gate_proj.weight": (INNER, HIDDEN),
            f"{name}mlp.up_proj.weight": (INNER, HIDDEN),
            f"{name}mlp.down_proj.weight": (HIDDEN, INNER),
            f"{name}input_layernorm.weight": (HIDDEN,),
            f"{name}post_attention_layernorm.weight": (HIDDEN,),
        }
    return found | {"model.norm.weight": (HIDDEN,)}


def ensure_model(folder: Path) -> Path:
    """Write the model once; gives its folder."""
    if (folder / "tokenizer.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(), indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 257}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"})
    )
    _write_tokenizer(folder / "tokenizer.json")
    return folder


def _write_weights(path: Path) -> None:
    """safetensors: 8 bytes of header length, the header as JSON, the tensors."""
    header, place = {}, 0
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(SEED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes().values():
            file.write(_bfloat16(random, shape))


def _bfloat16(random: np.random.Generator, shape: tuple[int, ...]) -> bytes:
    """Weights as training leaves them: normal, of a size that keeps activations in range."""
    values = random.standard_normal(shape, np.float32)
    values *= 0.02
    if len(shape) == 1:
        values += 1.0
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def _write_tokenizer(path: Path) -> None:
    """A byte-level tokenizer with one merge, since llama.cpp wants one: text becomes bytes, and
    every id becomes text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: n for n, char in enumerate(alphabet)}
    special = ["<|begin|>", "<|end|>"]
    vocabulary |= {token: len(alphabet) + n for n, token in enumerate(special)}
    vocabulary |= {f"Ġ{n:x}": n for n in range(len(vocabulary), VOCABULARY - 1)}
    vocabulary["th"] = VOCABULARY - 1
    core = Tokenizer(models.BPE(vocabulary, [("t", "h")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    core.save(str(path))
