"""The kernels compute what torch's functions do: compiled on a GPU, interpreted without one."""

from typing import get_args

import pytest
import torch

from engine.worker.kernels import DEVICE, kernels, needs_interpreter, run_interpreted
from inferd.engine.models.spec import Activation, Mlp, Norm, Rotary
from inferd.engine.worker.torch_layers import Pieces, RotaryTable, TorchPieces

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


@needs_interpreter
def test_interpreted() -> None:
    run_interpreted(__file__)


def pieces() -> Pieces:
    from inferd.engine.worker.triton_layers import TritonPieces

    return TritonPieces()


def normal(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    noise = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=noise).to(DEVICE, dtype)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    bound = TOLERANCE[expected.dtype]
    torch.testing.assert_close(found, expected, rtol=bound, atol=bound)


@kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [4, 96, 2048])
def test_norms(size: int, dtype: torch.dtype) -> None:
    weights = {"n": normal(size, dtype=dtype), "n.bias": normal(size, dtype=dtype)}
    x = normal(3, size, dtype=dtype) * 5
    for norm in (Norm("rms", 1e-5), Norm("rms", 1e-6, 1.0), Norm("layer", 1e-5)):
        expected = TorchPieces.normed(x, weights, "n", norm)
        assert_near(pieces().normed(x, weights, "n", norm), expected)


@kernels
def test_norms_of_heads_that_lie_among_others() -> None:
    x = normal(5, 7, 24, dtype=torch.float32)[:, 2:5]
    weights, norm = {"n": normal(24, dtype=torch.float32)}, Norm("rms", 1e-6)
    found = pieces().normed(x, weights, "n", norm)
    assert found.is_contiguous()
    assert_near(found, TorchPieces.normed(x, weights, "n", norm))
    assert pieces().normed(x[:0], weights, "n", norm).shape == (0, 3, 24)


@kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gates(activation: Activation, dtype: torch.dtype) -> None:
    for size in (5, 1500):
        packed = 4 * normal(3, 2 * size, dtype=dtype)
        mlp = Mlp(size, activation)
        assert_near(pieces().gated(packed, mlp), TorchPieces.gated(packed, mlp))
    far = torch.tensor([[-200.0, 200.0, 1.0, 1.0]], device=DEVICE)
    assert pieces().gated(far, Mlp(2, activation)).tolist() == [[0.0, 200.0]]


@kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "turned"), [(64, 64), (80, 32), (6, 2)])
def test_rotation_of_heads_that_lie_among_others(
    head_dim: int, turned: int, dtype: torch.dtype
) -> None:
    rotary = Rotary(tuple(0.7**n for n in range(turned // 2)), attention_factor=1.2)
    positions = torch.tensor([0, 3, 50], device=DEVICE)
    angles = RotaryTable(rotary, DEVICE).angles(positions, positions + 1)
    x = normal(3, 20, head_dim, dtype=dtype)[:, 1:19]
    found = pieces().rotated(x, angles)
    assert found.is_contiguous()
    assert_near(found, TorchPieces.rotated(x, angles))
