"""Which weights a model has, and their shapes: the table in `spec.py`, computed for one spec.

Pure; it refuses to know checkpoints.
"""

from collections.abc import Iterator

from inferd.engine.models.spec import DecoderSpec, Layer

Shape = tuple[int, ...]


def weight_shapes(spec: DecoderSpec) -> dict[str, Shape]:
    """Canonical name to shape of every weight of the model, in the order they are used."""
    hidden = spec.hidden_size
    norm_bias = spec.norm.kind == "layer"
    shapes: dict[str, Shape] = {"embed": (spec.vocab_size, hidden)}
    if spec.learned_positions:
        shapes["positions"] = (spec.max_position, hidden)
    for index, layer in enumerate(spec.layers):
        for name, shape in _layer_shapes(layer, hidden, norm_bias):
            shapes[f"layers.{index}.{name}"] = shape
    shapes |= _with_bias("norm", (hidden,), norm_bias)
    if not spec.tie_word_embeddings:
        shapes["lm_head"] = (spec.vocab_size, hidden)
    return shapes


def _layer_shapes(layer: Layer, hidden: int, norm_bias: bool) -> Iterator[tuple[str, Shape]]:
    attention, mlp = layer.attention, layer.mlp
    rows = attention.num_heads * attention.head_dim
    packed = rows + 2 * attention.num_kv_heads * attention.head_dim
    ups = mlp.intermediate_size * (2 if mlp.gated else 1)
    yield from _with_bias("input_norm", (hidden,), norm_bias)
    yield from _with_bias("qkv", (packed, hidden), attention.qkv_bias)
    if attention.qk_norm:
        yield "q_norm", (attention.head_dim,)
        yield "k_norm", (attention.head_dim,)
    yield from _with_bias("o", (hidden, rows), attention.output_bias)
    if layer.post_norms:
        yield from _with_bias("post_attention_norm", (hidden,), norm_bias)
    yield from _with_bias("mlp_norm", (hidden,), norm_bias)
    yield from _with_bias("gate_up", (ups, hidden), mlp.bias)
    yield from _with_bias("down", (hidden, mlp.intermediate_size), mlp.bias)
    if layer.post_norms:
        yield from _with_bias("post_mlp_norm", (hidden,), norm_bias)


def _with_bias(name: str, shape: Shape, bias: bool) -> list[tuple[str, Shape]]:
    weight = (name, shape)
    return [weight, (f"{name}.bias", shape[:1])] if bias else [weight]
