"""What a family is: a reader of its `config.json`, and the names that its checkpoints use.

A family's file fills this in and holds no forward pass. Pure: no numpy, no torch, no files.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from inferd.engine.models.fields import Fields
from inferd.engine.models.shapes import weight_shapes
from inferd.engine.models.spec import DecoderSpec, WeightSource


@dataclass(frozen=True, slots=True)
class Names:
    """How checkpoints name the canonical weights.

    `parts` maps a canonical weight, without its layer, to the tensors that make it, in order and
    without `.weight` or `.bias`. Those of a layer stand under `layer`, and all but the head under
    one of `prefixes`. `transposed` are the weights that are kept as [in, out].
    """

    parts: Mapping[str, tuple[str, ...]]
    layer: str = "layers.{}."
    prefixes: tuple[str, ...] = ("model.",)
    transposed: frozenset[str] = field(default_factory=frozenset)

    def source(self, name: str, prefix: str) -> WeightSource:
        """Where the canonical weight `name` lies in a checkpoint that uses `prefix`."""
        stem = name.removesuffix(".bias")
        bias = stem != name
        place, _, part = stem.rpartition(".")
        if place:
            prefix += self.layer.format(place.removeprefix("layers."))
        if part == "lm_head":
            prefix = ""
        suffix = ".bias" if bias else ".weight"
        tensors = tuple(f"{prefix}{tensor}{suffix}" for tensor in self.parts[part])
        return WeightSource(name, tensors, transposed=not bias and part in self.transposed)

    def prefix(self, names: Collection[str]) -> str:
        """The prefix that a checkpoint with tensors `names` uses; the usual one if none fits."""
        (embed,) = self.parts["embed"]
        fitting = (p for p in self.prefixes if f"{p}{embed}.weight" in names)
        return next(fitting, self.prefixes[0])


@dataclass(frozen=True, slots=True)
class Family:
    """`read` turns a configuration into a spec, or raises ConfigError or Unsupported."""

    read: Callable[[Fields], DecoderSpec]
    names: Names

    def sources(self, spec: DecoderSpec, names: Collection[str] = ()) -> tuple[WeightSource, ...]:
        """Where each weight of `spec` lies in a checkpoint with tensors `names`."""
        prefix = self.names.prefix(names)
        return tuple(self.names.source(name, prefix) for name in weight_shapes(spec))


LLAMA_PARTS: Mapping[str, tuple[str, ...]] = {
    "embed": ("embed_tokens",),
    "input_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "o": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
    "norm": ("norm",),
    "lm_head": ("lm_head",),
}
"""Llama's names, which most families took over."""
