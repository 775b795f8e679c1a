import pytest
import torch

from inferd.engine.models.spec import Mlp, Norm, Rotary
from inferd.engine.worker.torch_layers import (
    RotaryTable,
    TorchPieces,
    activated,
    best_pieces,
    feed_forward,
    normed,
    rotated,
    softcap,
)

CPU = torch.device("cpu")


def test_norms_are_what_the_spec_says() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    weights = {"n": torch.tensor([1.0, 0.0, 2.0, -1.0]), "n.bias": torch.ones(4)}
    rms = (50 / 4) ** 0.5
    plain = normed(x, weights, "n", Norm("rms", 0.0))
    offset = normed(x, weights, "n", Norm("rms", 0.0, offset=1.0))
    torch.testing.assert_close(plain, x / rms * weights["n"])
    torch.testing.assert_close(offset, x / rms * (1 + weights["n"]))
    layer = normed(x, weights, "n", Norm("layer", 0.0))
    torch.testing.assert_close(layer, (x - 3) / (14 / 4) ** 0.5 * weights["n"] + 1)


def test_norms_are_computed_in_float32() -> None:
    x = torch.full((1, 4096), 300.0, dtype=torch.float16)  # its square is beyond float16
    out = normed(x, {"n": torch.ones(4096, dtype=torch.float16)}, "n", Norm("rms", 1e-6))
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, torch.ones_like(x))


def test_an_mlp_with_and_without_a_gate() -> None:
    x = torch.tensor([[1.0, -2.0]])
    gate, up, down = torch.eye(2), 3 * torch.eye(2), 2 * torch.eye(2)
    weights = {"gate_up": torch.cat([gate, up]), "down": down}
    gated = feed_forward(x, weights, Mlp(2, "silu"), TorchPieces())
    torch.testing.assert_close(gated, 2 * torch.nn.functional.silu(x) * 3 * x)
    weights = {"gate_up": up, "gate_up.bias": torch.ones(2), "down": down, "down.bias": x[0]}
    plain = feed_forward(x, weights, Mlp(2, "gelu", gated=False, bias=True), TorchPieces())
    torch.testing.assert_close(plain, 2 * torch.nn.functional.gelu(3 * x + 1) + x)


def test_the_two_gelus_differ() -> None:
    x = torch.tensor([0.5, -1.5])
    exact, tanh = activated(x, Mlp(1, "gelu")), activated(x, Mlp(1, "gelu_tanh"))
    assert not torch.equal(exact, tanh)
    torch.testing.assert_close(exact, tanh, atol=1e-3, rtol=0)


def test_caps() -> None:
    x = torch.tensor([-100.0, 0.1, 100.0])
    capped = torch.tensor([-2.0, 0.0999, 2.0])
    torch.testing.assert_close(softcap(x, 2.0), capped, atol=1e-4, rtol=0)
    assert softcap(x, 0.0) is x


def test_rotation_turns_pairs_and_leaves_the_rest() -> None:
    table = RotaryTable(Rotary((1.0, 0.5), attention_factor=2.0), CPU)
    positions = torch.tensor([0, 3])
    x = torch.tensor([[1.0, 2.0, 0.0, 0.0, 9.0]]).expand(2, 1, 5)
    out = rotated(x, table.angles(positions, positions + 1))[:, 0]
    torch.testing.assert_close(out[0], torch.tensor([2.0, 4.0, 0.0, 0.0, 9.0]))
    turns = torch.tensor([3.0, 1.5])
    both = torch.cat([2 * turns.cos() * x[0, 0, :2], 2 * turns.sin() * x[0, 0, :2]])
    torch.testing.assert_close(out[1], torch.cat([both, torch.tensor([9.0])]))


def test_long_sequences_take_the_long_frequencies() -> None:
    table = RotaryTable(Rotary((1.0,), 1.0, (0.25,), long_from=8), CPU)
    positions, lengths = torch.tensor([4, 4]), torch.tensor([8, 9])
    cos, sin = table.angles(positions, lengths)
    torch.testing.assert_close(cos[:, 0, 0], torch.tensor([4.0, 1.0]).cos())
    torch.testing.assert_close(sin[:, 0, 0], torch.tensor([4.0, 1.0]).sin())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_goes_in_narrow_comes_out_narrow(dtype: torch.dtype) -> None:
    x = torch.ones(1, 1, 4, dtype=dtype)
    angles = RotaryTable(Rotary((1.0, 0.5)), CPU).angles(torch.tensor([1]), torch.tensor([2]))
    assert rotated(x, angles).dtype == dtype


def test_without_a_gpu_the_functions_are_the_best() -> None:
    assert isinstance(best_pieces(CPU), TorchPieces)
