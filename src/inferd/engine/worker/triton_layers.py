"""The pieces of a decoder as Triton kernels: one pass over memory each, where torch takes several.

Compared with `torch_layers`, which has the mathematics.
"""

import torch
from torch import Tensor

from inferd.engine.models.spec import Mlp, Norm
from inferd.engine.worker.torch_layers import Weights, normed
from inferd.engine.worker.triton_layer_kernels import gated_kernel, rms_norm_kernel, rotary_kernel

BLOCK = 1024
"""Numbers that a program of an element-wise kernel has."""


class TritonPieces:
    """Compiled for each combination of shapes at its first use."""

    def normed(self, x: Tensor, weights: Weights, name: str, norm: Norm) -> Tensor:
        """See Pieces."""
        if norm.kind != "rms":
            return normed(x, weights, name, norm)
        out = _empty(x)
        rows = x if x.ndim == 3 else x[:, None]
        tokens, heads, size = rows.shape
        if tokens:
            rms_norm_kernel[(tokens, heads)](
                out, rows, weights[name], rows.stride(0), rows.stride(1), HEADS=heads, SIZE=size,
                BLOCK=1 << (size - 1).bit_length(), EPS=norm.eps, OFFSET=norm.offset,
                num_warps=1 if size <= 512 else 4 if size <= 4096 else 8, enable_fp_fusion=True,
            )  # fmt: skip
        return out

    def gated(self, packed: Tensor, mlp: Mlp) -> Tensor:
        """See Pieces."""
        size = packed.shape[1] // 2
        out = packed.new_empty((len(packed), size))
        gated_kernel[(len(packed), -(-size // BLOCK))](
            out, packed, SIZE=size, BLOCK=BLOCK, ACTIVATION=mlp.activation, enable_fp_fusion=True,
        )  # fmt: skip
        return out

    def rotated(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """See Pieces."""
        out = _empty(x)
        tokens, heads, head_dim = x.shape
        cos, sin = angles
        rotary_kernel[(tokens, -(-heads * head_dim // BLOCK))](
            out, x, cos, sin, x.stride(0), x.stride(1), NUMBERS=heads * head_dim,
            HEAD_DIM=head_dim, HALF=cos.shape[-1], BLOCK=BLOCK, enable_fp_fusion=True,
        )  # fmt: skip
        return out


def _empty(x: Tensor) -> Tensor:
    """As x, and contiguous."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
