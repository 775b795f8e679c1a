"""Phi-3 and Phi-4 (text): Llama with packed projections, longrope and partly rotated heads."""

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer

PHI3_PARTS = {
    **LLAMA_PARTS,
    "qkv": ("self_attn.qkv_proj",),
    "gate_up": ("mlp.gate_up_proj",),
}


def read(fields: Fields) -> DecoderSpec:
    """Every layer alike; without a field for it there is no window."""
    fields = fields.over({"original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5})
    size = parts.head_dim(fields)
    attention = parts.attention(
        fields, rotary(fields, size), size, window=fields.integer_or_off("sliding_window")
    )
    layer = Layer(attention, parts.mlp(fields))
    return parts.decoder(fields, "phi3", (layer,) * fields.integer("num_hidden_layers"))


PHI3 = Family(read, Names(PHI3_PARTS))
