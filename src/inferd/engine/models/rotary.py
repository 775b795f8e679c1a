"""Inverse frequencies of rotary position embeddings: plain, and with each way of stretching them.

Configurations come in two spellings: transformers 4 writes `rope_theta` and `rope_scaling`, and
`rope_local_base_freq` where sliding layers have a base of their own; transformers 5 writes
`rope_parameters`, one for all layers or one for each type of layer.

Pure: fields in, a `Rotary` out, computed in double precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from inferd.engine.models.fields import Fields
from inferd.engine.models.spec import Rotary

LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True, slots=True)
class _Rope:
    """What the ways of stretching start from: their fields, the model's, rotated dimensions."""

    fields: Fields
    model: Fields
    dim: int
    theta: float

    def inv_freq(self) -> list[float]:
        return [self.theta ** (-i / self.dim) for i in range(0, self.dim, 2)]

    def original_length(self) -> int:
        return _original_length(self.fields, self.model)


def rotary(
    model: Fields, head_dim: int, layer_type: str = "full_attention", theta: float = 10_000.0
) -> Rotary:
    """The embedding of the model's layers of that type; `theta` is what the family takes when the
    configuration has none. Raises Unsupported for a type of scaling that is not implemented."""
    rope = _rope(model, head_dim, layer_type, theta)
    kind = _kind(rope.fields)
    scale = SCALINGS.get(kind)
    if scale is None:
        field = "rope_type" if "rope_type" in rope.fields else "type"
        known = ", ".join(sorted(SCALINGS))
        raise rope.fields.unsupported(field, f"'{kind}' is not supported; supported are: {known}")
    return scale(rope)


def longest(model: Fields) -> int:
    """The longest sequence that the model was made for. YaRN's may be more than the configuration
    calls `max_position_embeddings`, which then is the length before stretching."""
    stated = model.integer("max_position_embeddings")
    fields = _fields(model, "full_attention")
    if _kind(fields) != "yarn" or "factor" not in fields:
        return stated
    return max(stated, int(_original_length(fields, model) * fields.positive("factor")))


def _rope(model: Fields, head_dim: int, layer_type: str, theta: float) -> _Rope:
    fields = _fields(model, layer_type)
    theta = fields.positive("rope_theta", model.positive("rope_theta", theta))
    name = "partial_rotary_factor"
    partial = fields.positive(name, model.positive(name, 1.0))
    dim = int(head_dim * partial)
    if dim < 2 or dim % 2 or dim > head_dim:
        raise model.error(name, f"{partial} leaves {dim} of {head_dim} dimensions to rotate")
    return _Rope(fields, model, dim, theta)


def _fields(model: Fields, layer_type: str) -> Fields:
    """The fields about the rotary embedding of layers of that type."""
    if "rope_parameters" not in model:
        if layer_type == "sliding_attention" and "rope_local_base_freq" in model:
            return Fields({"rope_theta": model.positive("rope_local_base_freq")}, model.file)
        return model.inner("rope_scaling")
    fields = model.inner("rope_parameters")
    if not any(name in fields for name in LAYER_TYPES):
        return fields
    if layer_type not in fields:
        raise fields.error(layer_type, "is missing, and a layer has that type")
    return fields.inner(layer_type)


def _original_length(fields: Fields, model: Fields) -> int:
    """The length that the frequencies were trained with; where it stands twice, the model's own
    field goes before that of the scaling."""
    name = "original_max_position_embeddings"
    trained = model if name in model else fields
    return trained.integer(name, model.integer("max_position_embeddings"))


def _kind(fields: Fields) -> str:
    kind = fields.text("rope_type", fields.text("type", "default"))
    old_longrope = kind in ("su", "yarn") and "long_factor" in fields  # in the first Phi-3
    return "longrope" if old_longrope else kind


def _default(rope: _Rope) -> Rotary:
    return Rotary(tuple(rope.inv_freq()))


def _linear(rope: _Rope) -> Rotary:
    factor = rope.fields.positive("factor")
    return Rotary(tuple(f / factor for f in rope.inv_freq()))


def _dynamic(rope: _Rope) -> Rotary:
    """Stretches only sequences longer than `max_position_embeddings`, and no longer one is taken:
    the keys that are cached already would have to be rotated again."""
    rope.fields.positive("factor")
    return _default(rope)


def _llama3(rope: _Rope) -> Rotary:
    """Long waves are stretched, short ones are not, those between are mixed."""
    factor = rope.fields.positive("factor")
    low, high = rope.fields.positive("low_freq_factor"), rope.fields.positive("high_freq_factor")
    if high <= low:
        raise rope.fields.error("high_freq_factor", "must be above low_freq_factor")
    length = rope.original_length()

    def stretched(frequency: float) -> float:
        waves = length * frequency / (2 * math.pi)
        kept = min(max((waves - low) / (high - low), 0.0), 1.0)
        return (1 - kept) * frequency / factor + kept * frequency

    return Rotary(tuple(map(stretched, rope.inv_freq())))


def _yarn(rope: _Rope) -> Rotary:
    """As llama3, by a ramp over the dimensions; attention becomes sharper too."""
    fields, length = rope.fields, rope.original_length()
    factor = fields.positive("factor", rope.model.integer("max_position_embeddings") / length)
    fast, slow = fields.positive("beta_fast", 32.0), fields.positive("beta_slow", 1.0)

    def dimension(rotations: float) -> float:
        """The dimension that turns so often over the original length."""
        waves = length / (rotations * 2 * math.pi)
        return rope.dim * math.log(waves) / (2 * math.log(rope.theta))

    first, last = dimension(fast), dimension(slow)
    if fields.flag("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dim - 1)
    span = last - first or 0.001

    def stretched(index: int, frequency: float) -> float:
        ramp = min(max((index - first) / span, 0.0), 1.0)
        return ramp * frequency / factor + (1 - ramp) * frequency

    inv_freq = tuple(stretched(i, f) for i, f in enumerate(rope.inv_freq()))
    return Rotary(inv_freq, fields.positive("attention_factor", _yarn_attention(fields, factor)))


def _yarn_attention(fields: Fields, factor: float) -> float:
    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if "mscale" in fields and "mscale_all_dim" in fields:
        return mscale(fields.number("mscale")) / mscale(fields.number("mscale_all_dim"))
    return mscale(1.0)


def _longrope(rope: _Rope) -> Rotary:
    """Two sets of factors, one for each frequency: for short sequences and for long ones."""
    fields, length, angles = rope.fields, rope.original_length(), rope.dim // 2
    factor = fields.positive("factor", rope.model.integer("max_position_embeddings") / length)
    attention = math.sqrt(1 + math.log(factor) / math.log(length)) if factor > 1 else 1.0
    plain = rope.inv_freq()
    short, long = (
        tuple(f / stretch for f, stretch in zip(plain, fields.numbers(name, angles), strict=True))
        for name in ("short_factor", "long_factor")
    )
    return Rotary(short, fields.positive("attention_factor", attention), long, length)


SCALINGS: dict[str, Callable[[_Rope], Rotary]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
"""`rope_type` to what computes it."""
