"""Matrix products y = x W^T for several forms of weights, for one row of x as for many.

Weights are packed once into panels of 64 outputs, so that one 64-byte load holds 16 outputs, and
read front to back: a single row of x is limited by memory alone. For many rows a panel stays in
the cache while tiles of six rows pass over it. Nothing is asked for ahead of time: the processor
sees that itself, and being told costs it bandwidth.

    form  bytes of a panel, K inputs    rows of x
    i8    64 K: [K/4][64 outputs][4]    int8, one scale a row
    bf16  128 K: [K/2][64 outputs][2]   bfloat16, or float32 where the processor cannot multiply
                                        bfloat16
    f32   256 K: [K][64 outputs]        float32
    i4    see `linear_i4`               int8, one scale a row

Stored weights of i8 are q + 128: the unsigned operand of the dot product. What that adds is taken
off again through the sums of x.

Words of an operation (addresses unless said otherwise): see `Linear`.
"""

from enum import IntEnum
from typing import Any

from numba import njit

from inferd.engine.kernels.emit import HAS_BF16
from inferd.engine.kernels.team import atomic_add
from inferd.engine.kernels.tile import (
    start_tile,
    store_tile,
    tile_dot,
    tile_dot_bf16,
    tile_fma_f32,
    tile_fma_pairs,
    zero_tile_f32,
)
from inferd.engine.kernels.vector import (
    abs_f32,
    exp_f32,
    fma,
    get_f32,
    get_i64,
    load_f32,
    load_i32,
    splat_f32,
    store_f32,
    to_f32,
)

PANEL = 64
MOST_ROWS = 6
SCRATCH_BYTES = 65 * 1024
"""Of a thread; `linear_i4` needs the most."""


class Linear(IntEnum):
    """Words of a product; `ROWS` points to the number of rows of x."""

    CODE = 0
    ROWS = 1
    X = 2
    X_STRIDE = 3  # bytes
    X_SCALES = 4  # float32 a row (i8, i4)
    X_SUMS = 5  # int32: -128 times the sum of a row (i8), -8 times that of each 32 inputs (i4)
    WEIGHTS = 6
    W_SCALES = 7  # float32 an output (i8)
    BIAS = 8  # float32 an output, or 0
    PANELS = 9  # a number
    INPUTS = 10  # a number, a multiple of 32
    Y = 11
    Y_STRIDE = 12  # bytes
    MODE = 13  # see Mode
    SHARE = 14  # panels that a thread takes at once
    SCRATCH = 15  # SCRATCH_BYTES for each thread


class Mode(IntEnum):
    """What happens to a product: stored; added to what y holds; for panels whose first half are
    gates and second half ups, activation(gate) * up stored as half a panel; PLAIN: the activation
    of the product itself."""

    STORE = 0
    ADD = 1
    SILU = 2
    GELU_TANH = 3
    GELU = 4
    PLAIN_SILU = 5
    PLAIN_GELU_TANH = 6
    PLAIN_GELU = 7


_inline = njit(nogil=True, cache=True, inline="never", boundscheck=False, fastmath=False)


@_inline
def _activated(gate: Any, mode: int) -> Any:
    """2 SiLU, 3 GELU with tanh, 4 GELU with the error function by the rational approximation
    7.1.26 of Abramowitz and Stegun (absolute error under 1.5e-7)."""
    one, zero = splat_f32(1.0), splat_f32(0.0)
    if mode == 2:
        return gate / (one + exp_f32(zero - gate))
    if mode == 4:
        x = abs_f32(gate) * splat_f32(0.7071067811865476)
        t = one / (one + splat_f32(0.3275911) * x)
        p = splat_f32(1.061405429)
        p = fma(p, t, splat_f32(-1.453152027))
        p = fma(p, t, splat_f32(1.421413741))
        p = fma(p, t, splat_f32(-0.284496736))
        p = fma(p, t, splat_f32(0.254829592))
        tail = p * t * exp_f32(zero - x * x)
        # erf(|x|) = 1 - tail; gate/2 (1 + erf(gate)) = (gate + |gate| (1 - tail)) / 2
        return (gate + abs_f32(gate) * (one - tail)) * splat_f32(0.5)
    inner = gate * (splat_f32(0.7978845608028654) + splat_f32(0.035677408136300125) * gate * gate)
    return gate / (one + exp_f32(splat_f32(-2.0) * inner))


@_inline
def finish_panel(op: int, row: int, rows: int, panel: int, scratch: int) -> None:
    """From the sums in scratch, 256 bytes a row, to y: scales, bias, activation or addition."""
    y_stride = get_i64(op + 96)
    mode = get_i64(op + 104)
    x_scales, w_scales, bias = get_i64(op + 32), get_i64(op + 56), get_i64(op + 64)
    first = panel * PANEL
    for i in range(rows):
        line = scratch + i * 256
        if x_scales != 0:
            x_scale = splat_f32(get_f32(x_scales + 4 * (row + i)))
            for j in range(0, PANEL * 4, 64):
                value = load_f32(line + j) * x_scale
                if w_scales != 0:
                    value = value * load_f32(w_scales + 4 * first + j)
                store_f32(line + j, value)
        if bias != 0:
            for j in range(0, PANEL * 4, 64):
                store_f32(line + j, load_f32(line + j) + load_f32(bias + 4 * first + j))
        y = get_i64(op + 88) + (row + i) * y_stride
        if mode >= 5:
            for j in range(0, PANEL * 4, 64):
                store_f32(y + 4 * first + j, _activated(load_f32(line + j), mode - 3))
        elif mode >= 2:
            half = PANEL * 2
            for j in range(0, half, 64):
                up = load_f32(line + half + j)
                store_f32(y + panel * half + j, _activated(load_f32(line + j), mode) * up)
        elif mode == 1:
            for j in range(0, PANEL * 4, 64):
                y_at = y + 4 * first + j
                store_f32(y_at, load_f32(y_at) + load_f32(line + j))
        else:
            for j in range(0, PANEL * 4, 64):
                store_f32(y + 4 * first + j, load_f32(line + j))


def _i8_tile(rows: int) -> Any:
    @njit(nogil=True, cache=True)
    def tile(w: int, x: int, stride: int, inputs: int, sums: int, scratch: int) -> None:
        acc = start_tile(rows, 4, sums, 4)
        end = w + inputs * 64
        while w < end:
            acc = tile_dot(acc, w, x, stride)
            w += 256
            x += 4
        store_tile(acc, scratch, 256)

    return tile


def _float_tile(multiply: Any, input_bytes: int, x_bytes: int) -> Any:
    """Tiles of sums in float32; `x_bytes` are multiplied at once."""

    def make(rows: int) -> Any:
        @njit(nogil=True, cache=True)
        def tile(w: int, x: int, stride: int, inputs: int, sums: int, scratch: int) -> None:
            acc = zero_tile_f32(rows, 4)
            end = w + inputs * input_bytes
            while w < end:
                acc = multiply(acc, w, x, stride)
                w += 256
                x += x_bytes
            store_tile(acc, scratch, 256)

        return tile

    return make


_bf16_tile = _float_tile(tile_dot_bf16, 128, 4) if HAS_BF16 else _float_tile(tile_fma_pairs, 128, 8)
_f32_tile = _float_tile(tile_fma_f32, 256, 4)


def _product(make_tile: Any, panel_bytes: int, integer: bool) -> Any:
    """A kernel over all panels and rows; `panel_bytes` for each input."""
    t1, t2, t3, t4, t5, t6 = (make_tile(rows) for rows in range(1, MOST_ROWS + 1))

    @njit(nogil=True, cache=True)
    def product(op: int, counter: int, thread: int, threads: int) -> None:
        rows = get_i64(get_i64(op + 8))
        x, stride, sums = get_i64(op + 16), get_i64(op + 24), get_i64(op + 40)
        panels, inputs, share = get_i64(op + 72), get_i64(op + 80), get_i64(op + 112)
        scratch = get_i64(op + 120) + thread * SCRATCH_BYTES
        while True:
            first = atomic_add(counter, share)
            if first >= panels:
                break
            for panel in range(first, min(first + share, panels)):
                w = get_i64(op + 48) + panel * inputs * panel_bytes
                row = 0
                while row < rows:
                    left = rows - row
                    tiles = (left + 5) // 6
                    count = (left + tiles - 1) // tiles
                    at, s = x + row * stride, sums + row * 4
                    if count == 6:
                        t6(w, at, stride, inputs, s, scratch)
                    elif count == 5:
                        t5(w, at, stride, inputs, s, scratch)
                    elif count == 4:
                        t4(w, at, stride, inputs, s, scratch)
                    elif count == 3:
                        t3(w, at, stride, inputs, s, scratch)
                    elif count == 2:
                        t2(w, at, stride, inputs, s, scratch)
                    else:
                        t1(w, at, stride, inputs, s, scratch)
                    if integer:
                        for line in range(scratch, scratch + 256 * count, 64):
                            store_f32(line, to_f32(load_i32(line)))
                    finish_panel(op, row, count, panel, scratch)
                    row += count

    return product


linear_i8 = _product(_i8_tile, 64, True)
linear_bf16 = _product(_bf16_tile, 128, False)
linear_f32 = _product(_f32_tile, 256, False)
