"""What a decoder-only language model is, as data. A family's file turns a `config.json` into a
DecoderSpec and says which tensors of a checkpoint are its weights; every runner executes any spec.

Pure: no torch, no numpy. A layer is, with n for a norm that may be absent:

    x = x + post_attention_norm(attention(input_norm(x)))
    x = x + post_mlp_norm(mlp(mlp_norm(x)))

and the model is `lm_head(final_norm(layers(embed[tokens] * embedding_scale + positions)))`.

Weights have canonical names and shapes, rows are outputs ([out, in], as torch's linear has them):

    embed                    [vocab, hidden]
    positions                [max_position, hidden]        where learned_positions
    layers.I.input_norm      [hidden]                      (.bias where the norm is "layer")
    layers.I.qkv             [(heads + 2 kv_heads) head_dim, hidden]     queries, keys, values
    layers.I.qkv.bias        [same rows]                   where qkv_bias
    layers.I.q_norm, k_norm  [head_dim]                    where qk_norm
    layers.I.o               [hidden, heads head_dim]      (.bias where output_bias)
    layers.I.post_attention_norm [hidden]                  where post_norms
    layers.I.mlp_norm        [hidden]                      (.bias)
    layers.I.gate_up         [2 intermediate, hidden]      gates, then ups (.bias where the MLP's)
                             [intermediate, hidden]        ups alone, where the MLP has no gate
    layers.I.down            [hidden, intermediate]        (.bias where the MLP's)
    layers.I.post_mlp_norm   [hidden]                      where post_norms
    norm                     [hidden]                      (.bias)
    lm_head                  [vocab, hidden]               absent where tie_word_embeddings
"""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_tanh", "gelu"]


@dataclass(frozen=True, slots=True)
class Norm:
    """`rms`: x / rms(x) * (offset + weight); `layer`: (x - mean) / std * weight + bias."""

    kind: Literal["rms", "layer"]
    eps: float
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding, halves rotated (as transformers does, not interleaved).

    The first `2 * len(inv_freq)` dimensions of a head are rotated. Angle i of position p is
    `p * inv_freq[i]`; sines and cosines are multiplied by `attention_factor`. Where `long_from` is
    not 0, sequences longer than it take `long_inv_freq` (Phi-3's longrope).
    """

    inv_freq: tuple[float, ...]
    attention_factor: float = 1.0
    long_inv_freq: tuple[float, ...] = ()
    long_from: int = 0


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention with grouped query heads. `window` > 0: a token sees itself and the
    `window - 1` before it. `softcap` > 0: scores become softcap * tanh(score / softcap)."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rotary: Rotary | None
    window: int = 0
    softcap: float = 0.0
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False


@dataclass(frozen=True, slots=True)
class Mlp:
    """`down(activation(gate(x)) * up(x))`, or `down(activation(up(x)))` without a gate."""

    intermediate_size: int
    activation: Activation
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; `post_norms` adds a norm behind attention and behind the MLP."""

    attention: Attention
    mlp: Mlp
    post_norms: bool = False


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A whole model. `max_position` is the longest sequence that it was made for."""

    family: str
    vocab_size: int
    hidden_size: int
    max_position: int
    norm: Norm
    layers: tuple[Layer, ...]
    embedding_scale: float = 1.0
    learned_positions: bool = False
    tie_word_embeddings: bool = False
    final_softcap: float = 0.0
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where a canonical weight lies in a checkpoint: tensors joined along their rows, in order;
    `transposed` where the checkpoint keeps [in, out] (GPT-2); `rows` of a tensor that holds
    several weights, as (first, end)."""

    name: str
    parts: tuple[str, ...]
    transposed: bool = False
    rows: tuple[int, int] | None = None
