"""Parts of a configuration that most families write in the same words. Pure."""

from collections.abc import Sequence

from inferd.engine.models.fields import Fields
from inferd.engine.models.rotary import LAYER_TYPES, longest
from inferd.engine.models.spec import (
    Activation,
    Attention,
    DecoderSpec,
    Layer,
    Mlp,
    Norm,
    Rotary,
)

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""The names that configurations use to what the spec calls it."""


def activation(fields: Fields, name: str, default: str) -> Activation:
    """The activation in field `name`; raises Unsupported for one that is not implemented."""
    value = fields.text(name, default)
    found = ACTIVATIONS.get(value)
    if found is None:
        known = ", ".join(sorted(ACTIVATIONS))
        raise fields.unsupported(name, f"'{value}' is not supported; supported are: {known}")
    return found


def head_dim(fields: Fields, default: int = 0) -> int:
    """The size of a head; without a field for it `default`, or else an equal share of hidden."""
    if default or "head_dim" in fields:
        return fields.integer("head_dim", default or None)
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if hidden % heads:
        raise fields.error("num_attention_heads", f"{heads} does not divide hidden_size {hidden}")
    return hidden // heads


def attention(
    fields: Fields,
    rotary: Rotary,
    size: int,
    *,
    kv_heads: int = 0,
    scalar: float = 0.0,
    window: int = 0,
    softcap: float = 0.0,
    qk_norm: bool = False,
    qkv_bias: bool = False,
    output_bias: bool = False,
) -> Attention:
    """Attention with heads of `size`; scores are divided by the root of `scalar`, or of `size`.
    `kv_heads` is their number when the field is absent; 0 is as many as there are queries'."""
    heads = fields.integer("num_attention_heads")
    groups = fields.integer("num_key_value_heads", kv_heads or heads)
    if heads % groups:
        raise fields.error("num_key_value_heads", f"{groups} does not divide {heads} heads")
    return Attention(
        num_heads=heads,
        num_kv_heads=groups,
        head_dim=size,
        scale=(scalar or size) ** -0.5,
        rotary=rotary,
        window=window,
        softcap=softcap,
        qk_norm=qk_norm,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
    )


def mlp(fields: Fields, act: str = "hidden_act", default: str = "silu", bias: bool = False) -> Mlp:
    """A gated MLP whose activation stands in field `act`."""
    return Mlp(fields.integer("intermediate_size"), activation(fields, act, default), bias=bias)


def layer_types(fields: Fields, default: Sequence[str]) -> tuple[str, ...]:
    """The type of each layer, "full_attention" or "sliding_attention"."""
    count = fields.integer("num_hidden_layers")
    types = fields.texts("layer_types") or tuple(default)
    if len(types) != count:
        raise fields.error("layer_types", f"has {len(types)} entries for {count} layers")
    for kind in types:
        if kind not in LAYER_TYPES:
            known = " and ".join(LAYER_TYPES)
            raise fields.unsupported("layer_types", f"'{kind}' is not supported, only {known}")
    return types


def decoder(
    fields: Fields,
    family: str,
    layers: tuple[Layer, ...],
    *,
    tied: bool = False,
    norm_offset: float = 0.0,
    embedding_scale: float = 1.0,
    final_softcap: float = 0.0,
) -> DecoderSpec:
    """The model around its layers, with RMS norms. `tied` is what the family takes when the
    configuration does not say whether the head is the embedding."""
    return DecoderSpec(
        family=family,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        max_position=longest(fields),
        norm=Norm("rms", fields.positive("rms_norm_eps", 1e-6), norm_offset),
        layers=layers,
        embedding_scale=embedding_scale,
        tie_word_embeddings=fields.flag("tie_word_embeddings", tied),
        final_softcap=final_softcap,
        bos_token_id=next(iter(fields.token_ids("bos_token_id")), None),
        eos_token_ids=fields.token_ids("eos_token_id"),
    )
