"""The Triton kernels of a decoder's pieces; `triton_layers` launches them.

All compute in float32. Upper-case arguments are constants that a kernel is compiled for.
"""

# A kernel is no Python for a type checker: it is compiled, and its arguments are pointers.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(
    out, x, weight, x_token, x_head, HEADS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    EPS: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """x / rms(x) * (offset + weight), of one row."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, BLOCK)
    there = place < SIZE
    row = tl.load(x + token * x_token + head * x_head + place, mask=there, other=0.0)
    row = row.to(tl.float32)
    scale = 1 / tl.sqrt(tl.sum(row * row, 0) / SIZE + EPS)
    factor = OFFSET + tl.load(weight + place, mask=there, other=0.0).to(tl.float32)
    tl.store(out + (token * HEADS + head) * SIZE + place, row * scale * factor, mask=there)


@triton.jit
def gated_kernel(
    out, packed, SIZE: tl.constexpr, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr
):  # fmt: skip
    """activation(gate) * up, of a part of a token's row."""
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = place < SIZE
    at = packed + token * (2 * SIZE) + place
    gate = tl.load(at, mask=there, other=0.0).to(tl.float32)
    up = tl.load(at + SIZE, mask=there, other=0.0).to(tl.float32)
    if ACTIVATION == "gelu":
        active = 0.5 * gate * (1 + tl.erf(gate * 0.7071067811865476))
    else:
        # Both are gate * sigmoid(inner); the exponential is of what is never positive.
        inner = gate
        if ACTIVATION == "gelu_tanh":
            inner = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
        small = tl.exp(-tl.abs(inner))
        active = gate * tl.where(inner < 0, small, 1.0) / (1 + small)
    tl.store(out + token * SIZE + place, active * up, mask=there)


@triton.jit
def rotary_kernel(
    out, x, cos, sin, x_token, x_head, NUMBERS: tl.constexpr, HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The first 2 HALF dimensions of heads rotated, the first half of them with the second."""
    token = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = number < NUMBERS
    dim = number % HEAD_DIM
    row = x + token * x_token + number // HEAD_DIM * x_head
    turns = there & (dim < 2 * HALF)
    value = tl.load(row + dim, mask=there, other=0.0).to(tl.float32)
    other = tl.load(row + tl.where(dim < HALF, dim + HALF, dim - HALF), mask=turns, other=0.0)
    other = tl.where(dim < HALF, -other.to(tl.float32), other.to(tl.float32))
    angle = token * HALF + dim % HALF
    turned = value * tl.load(cos + angle, mask=turns, other=1.0)
    turned += other * tl.load(sin + angle, mask=turns, other=0.0)
    tl.store(out + token * NUMBERS + number, turned, mask=there)
