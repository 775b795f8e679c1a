"""Llama 1 to 3, and the many that are built like it."""

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer


def read(fields: Fields) -> DecoderSpec:
    """Every layer alike: full attention, gated MLP, either with biases if the fields say so."""
    size = parts.head_dim(fields)
    bias = fields.flag("attention_bias", False)
    attention = parts.attention(fields, rotary(fields, size), size, qkv_bias=bias, output_bias=bias)
    layer = Layer(attention, parts.mlp(fields, bias=fields.flag("mlp_bias", False)))
    return parts.decoder(fields, "llama", (layer,) * fields.integer("num_hidden_layers"))


LLAMA = Family(read, Names(LLAMA_PARTS))
