"""Gemma 2: norms before and behind, every other layer slides, scores and logits are capped."""

import math

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer

GEMMA_PARTS = {
    **LLAMA_PARTS,
    "post_attention_norm": ("post_attention_layernorm",),
    "mlp_norm": ("pre_feedforward_layernorm",),
    "post_mlp_norm": ("post_feedforward_layernorm",),
}


def read(fields: Fields) -> DecoderSpec:
    """Norms multiply by 1 + weight; embeddings by the root of the hidden size."""
    size = parts.head_dim(fields, 256)
    count, bias = fields.integer("num_hidden_layers"), fields.flag("attention_bias", False)
    window = fields.integer_or_off("sliding_window", 4096)
    slides = ("full_attention" if i % 2 else "sliding_attention" for i in range(count))
    mlp = parts.mlp(fields, "hidden_activation", "gelu_pytorch_tanh")
    layers = tuple(
        Layer(
            parts.attention(
                fields,
                rotary(fields, size, kind),
                size,
                kv_heads=4,
                scalar=fields.positive("query_pre_attn_scalar", 256),
                window=window if kind == "sliding_attention" else 0,
                softcap=fields.number_or_off("attn_logit_softcapping", 50.0),
                qkv_bias=bias,
                output_bias=bias,
            ),
            mlp,
            post_norms=True,
        )
        for kind in parts.layer_types(fields, tuple(slides))
    )
    return parts.decoder(
        fields,
        "gemma2",
        layers,
        tied=True,
        norm_offset=1.0,
        embedding_scale=math.sqrt(fields.integer("hidden_size")),
        final_softcap=fields.number_or_off("final_logit_softcapping", 30.0),
    )


GEMMA2 = Family(read, Names(GEMMA_PARTS))
