"""Qwen 3 (dense): Qwen 2 with a norm on each head's query and key instead of biases."""

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.qwen2 import windows
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer


def read(fields: Fields) -> DecoderSpec:
    """Heads have a size of their own, 128 unless the fields say so."""
    size = parts.head_dim(fields, 128)
    bias = fields.flag("attention_bias", False)
    layers = tuple(
        Layer(
            parts.attention(
                fields,
                rotary(fields, size, kind),
                size,
                window=window,
                qk_norm=True,
                qkv_bias=bias,
                output_bias=bias,
            ),
            parts.mlp(fields),
        )
        for kind, window in windows(fields)
    )
    return parts.decoder(fields, "qwen3", layers)


QWEN3 = Family(read, Names(LLAMA_PARTS))
