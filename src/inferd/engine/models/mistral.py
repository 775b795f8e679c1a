"""Mistral: Llama with a sliding window in every layer (the first versions) or in none."""

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer


def read(fields: Fields) -> DecoderSpec:
    """`sliding_window` null is none; without the field it is 4096."""
    size = parts.head_dim(fields)
    attention = parts.attention(
        fields,
        rotary(fields, size),
        size,
        kv_heads=8,
        window=fields.integer_or_off("sliding_window", 4096),
    )
    layer = Layer(attention, parts.mlp(fields))
    return parts.decoder(fields, "mistral", (layer,) * fields.integer("num_hidden_layers"))


MISTRAL = Family(read, Names(LLAMA_PARTS))
