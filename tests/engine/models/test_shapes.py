import pytest

from engine.checkpoints import MODELS, folder, model
from inferd.engine.models.registry import describe
from inferd.engine.models.shapes import weight_shapes
from inferd.engine.models.spec import Attention, DecoderSpec, Layer, Mlp, Norm


def test_shapes_are_those_of_the_table() -> None:
    attention = Attention(4, 2, 8, 1.0, None, qk_norm=True, qkv_bias=True, output_bias=True)
    layer = Layer(attention, Mlp(20, "gelu", gated=False, bias=True), post_norms=True)
    spec = DecoderSpec("x", 50, 16, 30, Norm("layer", 1e-5), (layer,), learned_positions=True)
    shapes = weight_shapes(spec)
    assert {name: shape for name, shape in shapes.items() if not name.endswith(".bias")} == {
        "embed": (50, 16),
        "positions": (30, 16),
        "layers.0.input_norm": (16,),
        "layers.0.qkv": (64, 16),
        "layers.0.q_norm": (8,),
        "layers.0.k_norm": (8,),
        "layers.0.o": (16, 32),
        "layers.0.post_attention_norm": (16,),
        "layers.0.mlp_norm": (16,),
        "layers.0.gate_up": (20, 16),
        "layers.0.down": (16, 20),
        "layers.0.post_mlp_norm": (16,),
        "norm": (16,),
        "lm_head": (50, 16),
    }
    biases = {name for name in shapes if name.endswith(".bias")}
    without = {"embed", "positions", "layers.0.q_norm", "layers.0.k_norm", "lm_head"}
    assert biases == {f"{name}.bias" for name in shapes.keys() - biases - without}
    assert all(shapes[name] == shapes[name.removesuffix(".bias")][:1] for name in biases)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_of_a_models_parameters_are_there(name: str) -> None:
    """The shapes hold as many numbers as the model has."""
    spec, _ = describe(folder(name))
    numbers = 0
    for shape in weight_shapes(spec).values():
        numbers += shape[0] * (shape[1] if len(shape) == 2 else 1)
    assert numbers == sum(weight.numel() for weight in model(name).parameters())
