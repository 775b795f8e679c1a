"""Qwen 2 and 2.5: Llama with biases of queries, keys and values, and windows in upper layers."""

from inferd.engine.models import parts
from inferd.engine.models.family import LLAMA_PARTS, Family, Names
from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import rotary
from inferd.engine.models.spec import DecoderSpec, Layer


def windows(fields: Fields) -> tuple[tuple[str, int], ...]:
    """Type and window of each layer: those from `max_window_layers` on have one, unless
    `layer_types` says otherwise, and none has while `use_sliding_window` is false."""
    window = 0
    if fields.flag("use_sliding_window", False):
        window = fields.integer_or_off("sliding_window", 4096)
    count, first = fields.integer("num_hidden_layers"), fields.integer("max_window_layers", 28, 0)
    slides = ("full_attention" if i < first or not window else "sliding_attention"
              for i in range(count))  # fmt: skip
    types = parts.layer_types(fields, tuple(slides))
    if "sliding_attention" in types and not window:
        raise fields.error("layer_types", "has sliding layers, but use_sliding_window is off")
    return tuple((kind, window if kind == "sliding_attention" else 0) for kind in types)


def read(fields: Fields) -> DecoderSpec:
    """Layers differ in their windows alone."""
    size = parts.head_dim(fields)
    layers = tuple(
        Layer(
            parts.attention(fields, rotary(fields, size, kind), size, window=window, qkv_bias=True),
            parts.mlp(fields),
        )
        for kind, window in windows(fields)
    )
    return parts.decoder(fields, "qwen2", layers)


QWEN2 = Family(read, Names(LLAMA_PARTS))
