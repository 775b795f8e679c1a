"""GPT-2: layer norms, learned positions, biases everywhere, weights kept as [in, out]."""

from inferd.engine.models import parts
from inferd.engine.models.family import Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.spec import Attention, DecoderSpec, Layer, Mlp, Norm

PARTS = {
    "embed": ("wte",),
    "positions": ("wpe",),
    "input_norm": ("ln_1",),
    "qkv": ("attn.c_attn",),
    "o": ("attn.c_proj",),
    "mlp_norm": ("ln_2",),
    "gate_up": ("mlp.c_fc",),
    "down": ("mlp.c_proj",),
    "norm": ("ln_f",),
    "lm_head": ("lm_head",),
}
NAMES = Names(
    PARTS,
    layer="h.{}.",
    prefixes=("transformer.", ""),
    transposed=frozenset({"qkv", "o", "gate_up", "down"}),
)
"""The first checkpoints were saved without the head, and so without `transformer.`."""


def read(fields: Fields) -> DecoderSpec:
    """Layers differ at most in the scale of their scores."""
    hidden, heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
    if hidden % heads:
        raise fields.error("n_head", f"{heads} does not divide n_embd {hidden}")
    size = hidden // heads
    scale = size**-0.5 if fields.flag("scale_attn_weights", True) else 1.0
    by_layer = fields.flag("scale_attn_by_inverse_layer_idx", False)
    mlp = Mlp(
        fields.integer("n_inner", 4 * hidden),
        parts.activation(fields, "activation_function", "gelu_new"),
        gated=False,
        bias=True,
    )
    layers = tuple(
        Layer(_attention(heads, size, scale / (index + 1) if by_layer else scale), mlp)
        for index in range(fields.integer("n_layer", 12))
    )
    return DecoderSpec(
        family="gpt2",
        vocab_size=fields.integer("vocab_size", 50257),
        hidden_size=hidden,
        max_position=fields.integer("n_positions", 1024),
        norm=Norm("layer", fields.positive("layer_norm_epsilon", 1e-5)),
        layers=layers,
        learned_positions=True,
        tie_word_embeddings=fields.flag("tie_word_embeddings", True),
        bos_token_id=next(iter(fields.token_ids("bos_token_id")), None),
        eos_token_ids=fields.token_ids("eos_token_id"),
    )


def _attention(heads: int, size: int, scale: float) -> Attention:
    return Attention(heads, heads, size, scale, rotary=None, qkv_bias=True, output_bias=True)


GPT2 = Family(read, NAMES)
