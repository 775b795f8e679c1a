"""Gemma 3 (text): Gemma 2 without caps, with norms of queries and keys, mostly sliding layers.

A multimodal configuration holds the text model's in `text_config`; images are not taken.
"""

import math
from dataclasses import replace

from inferd.engine.models import parts
from inferd.engine.models.family import Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.gemma2 import GEMMA_PARTS
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer

DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
    "rope_local_base_freq": 10_000.0,
}
"""Published configurations leave these out where they hold."""


def read(fields: Fields) -> DecoderSpec:
    """The text model, whether it stands alone or in `text_config`."""
    if "text_config" not in fields:
        return _text(fields.over(DEFAULTS))
    spec = _text(fields.inner("text_config").over(DEFAULTS))
    return replace(
        spec,
        tie_word_embeddings=fields.flag("tie_word_embeddings", spec.tie_word_embeddings),
        bos_token_id=next(iter(fields.token_ids("bos_token_id")), spec.bos_token_id),
        eos_token_ids=fields.token_ids("eos_token_id") or spec.eos_token_ids,
    )


def _text(fields: Fields) -> DecoderSpec:
    size, bias = parts.head_dim(fields, 256), fields.flag("attention_bias", False)
    window = fields.integer_or_off("sliding_window", 4096)
    pattern = fields.integer("sliding_window_pattern", fields.integer("_sliding_window_pattern", 6))
    slides = (
        "sliding_attention" if (i + 1) % pattern else "full_attention"
        for i in range(fields.integer("num_hidden_layers"))
    )
    mlp = parts.mlp(fields, "hidden_activation", "gelu_pytorch_tanh")
    layers = tuple(
        Layer(
            parts.attention(
                fields,
                rotary(fields, size, kind, 1_000_000.0),
                size,
                scalar=fields.positive("query_pre_attn_scalar", 256),
                window=window if kind == "sliding_attention" else 0,
                softcap=fields.number_or_off("attn_logit_softcapping"),
                qk_norm=True,
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
        "gemma3",
        layers,
        tied=True,
        norm_offset=1.0,
        embedding_scale=math.sqrt(fields.integer("hidden_size")),
        final_softcap=fields.number_or_off("final_logit_softcapping"),
    )


GEMMA3 = Family(
    read,
    Names(GEMMA_PARTS, prefixes=("model.", "language_model.model.", "model.language_model.")),
)
