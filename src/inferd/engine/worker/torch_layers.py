"""The pieces of a decoder in torch: norms, activations, rotary embedding, caps.

Computed in float32 and returned in the dtype that came in. Nothing here waits for the device.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from inferd.engine.models.spec import Mlp, Norm, Rotary

Weights = Mapping[str, Tensor]
"""Weights by their name within a layer, or within the model."""


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """x [T, in] times weight `name` [out, in], plus its bias if there is one."""
    return functional.linear(x, weights[name], weights.get(f"{name}.bias"))


def normed(x: Tensor, weights: Weights, name: str, norm: Norm) -> Tensor:
    """`norm` over the last dimension of x, with the weights of that name."""
    weight, wide = weights[name].float(), x.float()
    if norm.kind == "layer":
        bias = weights[f"{name}.bias"].float()
        return functional.layer_norm(wide, weight.shape, weight, bias, norm.eps).to(x.dtype)
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps)
    return (wide * scale * (norm.offset + weight)).to(x.dtype)


def softcap(x: Tensor, cap: float) -> Tensor:
    """x, kept within -cap and cap; unchanged if `cap` is 0."""
    return cap * torch.tanh(x / cap) if cap else x


def gated(packed: Tensor, mlp: Mlp) -> Tensor:
    """activation(gate) * up, of gates and ups that lie side by side."""
    gate, up = packed.chunk(2, -1)
    return activated(gate, mlp) * up


def activated(x: Tensor, mlp: Mlp) -> Tensor:
    """The MLP's activation, element by element."""
    if mlp.activation == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if mlp.activation == "gelu_tanh" else "none")


class RotaryTable:
    """A rotary embedding on a device."""

    def __init__(self, rotary: Rotary, device: torch.device) -> None:
        self._long_from = rotary.long_from
        self._factor = rotary.attention_factor
        self._inv_freq = torch.tensor(rotary.inv_freq, dtype=torch.float32, device=device)
        self._long = torch.tensor(rotary.long_inv_freq, dtype=torch.float32, device=device)

    def angles(self, positions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, 1, dimensions / 2] of tokens at `positions` [T], in sequences that
        have `lengths` [T] tokens."""
        inv_freq = self._inv_freq
        if self._long_from:
            long = (lengths > self._long_from)[:, None]
            inv_freq = torch.where(long, self._long, inv_freq)
        angles = (positions[:, None].float() * inv_freq)[:, None]
        return angles.cos() * self._factor, angles.sin() * self._factor


def rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """x [T, heads, head_dim] with its first dimensions rotated, the first half with the second."""
    cos, sin = angles
    half = cos.shape[-1]
    first, second, rest = x.float().tensor_split((half, 2 * half), -1)
    turned = (first * cos - second * sin, second * cos + first * sin, rest)
    return torch.cat(turned, -1).to(x.dtype)


class Pieces(Protocol):
    """The pieces that are worth a kernel of their own; see the functions of the same names."""

    def normed(self, x: Tensor, weights: Weights, name: str, norm: Norm) -> Tensor:
        """`norm` over the last dimension of x [T, ...]."""

    def gated(self, packed: Tensor, mlp: Mlp) -> Tensor:
        """activation(gate) * up [T, n] of packed [T, 2 n]."""

    def rotated(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """x [T, heads, head_dim] rotated."""


class TorchPieces:
    """The functions of this module."""

    normed = staticmethod(normed)
    gated = staticmethod(gated)
    rotated = staticmethod(rotated)


def best_pieces(device: torch.device) -> Pieces:
    """The fastest pieces that a device has here."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from inferd.engine.worker.triton_layers import TritonPieces

        return TritonPieces()
    return TorchPieces()


def feed_forward(x: Tensor, weights: Weights, mlp: Mlp, pieces: Pieces) -> Tensor:
    """The MLP of a layer."""
    x = linear(x, weights, "gate_up")
    x = pieces.gated(x, mlp) if mlp.gated else activated(x, mlp)
    return linear(x, weights, "down")
