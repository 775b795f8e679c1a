"""Matrix products with weights of 4 bits: scale * m * (q - 8), q a nibble, m in -15..15.

A multiplier m belongs to 32 inputs of an output, a scale (float16) to 256: 4.3 bits a number. All
between two scales is exact in integers, which gives one and the same sum in two ways. Few rows of x
meet the nibbles as they are read, so memory is the limit, and each group's sum is multiplied by m.
For many rows a block of 256 inputs is unpacked into bytes first, 128 + m (q - 8), which stay in the
nearest cache while tiles of six rows pass over them, as in a product of 8 bits.

A panel is a block after the other, the last with what inputs are left:

    64 float16 scales, then for each 32 inputs 64 int8 multipliers and [4][64 outputs][4 bytes]:
    in the low nibbles inputs 0 to 3 of 8, in the high ones 4 to 7
"""

from typing import Any, Final

from numba import njit

from inferd.engine.kernels.linear import MOST_ROWS, PANEL, SCRATCH_BYTES, finish_panel
from inferd.engine.kernels.team import atomic_add
from inferd.engine.kernels.tile import (
    start_tile,
    store_tile,
    tile_dot,
    tile_dot_nibbles,
    tile_fold,
    tile_fold_into,
    tile_multiply,
    unpack_nibbles,
    zero_tile_f32,
    zero_tile_i32,
)
from inferd.engine.kernels.vector import (
    get_i64,
    prefetch_64,
    splat_f32,
    store_f32,
)

GROUP: Final = 32
BLOCK: Final = 256
BLOCK_HEAD: Final = 2 * PANEL
GROUP_BYTES: Final = PANEL + PANEL * GROUP // 2

FEW_ROWS: Final = 12
"""Up to here passes over the nibbles, of three rows each, are quicker than unpacking them."""

ROWS_AT_ONCE: Final = 192
"""Rows whose sums wait in scratch while a panel is unpacked once."""

_ASKING_TILES: Final = 3
"""Each asks for 64 lines; a block has 138."""

_UNPACKED = BLOCK * PANEL
assert _UNPACKED + ROWS_AT_ONCE * PANEL * 4 <= SCRATCH_BYTES


@njit(nogil=True, cache=True)
def blocks(inputs: int) -> int:
    """Blocks of a row."""
    return (inputs + BLOCK - 1) // BLOCK


@njit(nogil=True, cache=True)
def sums_bytes(inputs: int) -> int:
    """Bytes of the sums of a row of x: -8 times each group's, then -128 times each block's."""
    return 4 * (inputs // GROUP + blocks(inputs))


def _nibble_tile(rows: int) -> Any:
    @njit(nogil=True, cache=True)
    def tile(w: int, x: int, stride: int, inputs: int, sums: int, scratch: int) -> None:
        total = zero_tile_f32(rows, 4)
        sums_stride = sums_bytes(inputs)
        while inputs > 0:
            scales = w
            w += BLOCK_HEAD
            part = zero_tile_i32(rows, 4)
            for _ in range(min(inputs, BLOCK) // GROUP):
                acc = start_tile(rows, 4, sums, sums_stride)
                acc = tile_dot_nibbles(acc, w + 64, x, stride)
                acc = tile_dot_nibbles(acc, w + 320, x + 8, stride)
                acc = tile_dot_nibbles(acc, w + 576, x + 16, stride)
                acc = tile_dot_nibbles(acc, w + 832, x + 24, stride)
                part = tile_multiply(part, acc, w)
                w += GROUP_BYTES
                x += GROUP
                sums += 4
            total = tile_fold(total, part, scales)
            inputs -= BLOCK
        store_tile(total, scratch, 256)

    return tile


def _byte_tile(rows: int) -> Any:
    @njit(nogil=True, cache=True)
    def tile(
        w: int, x: int, stride: int, inputs: int, sums: int, sums_stride: int, totals: int,
        scales: int, ahead: int,
    ) -> None:  # fmt: skip
        acc = start_tile(rows, 4, sums, sums_stride)
        end = w + inputs * PANEL
        while w < end:
            prefetch_64(ahead)
            acc = tile_dot(acc, w, x, stride)
            w += 256
            x += 4
            ahead += 64
        tile_fold_into(acc, scales, totals, 256)

    return tile


_n1, _n2, _n3 = (_nibble_tile(rows) for rows in (1, 2, 3))
_b1, _b2, _b3, _b4, _b5, _b6 = (_byte_tile(rows) for rows in range(1, MOST_ROWS + 1))


@njit(nogil=True, cache=True)
def _few(op: int, rows: int, panel: int, w: int, scratch: int) -> None:
    """A panel's products with few rows."""
    x, stride, sums = get_i64(op + 16), get_i64(op + 24), get_i64(op + 40)
    inputs = get_i64(op + 80)
    sums_stride = sums_bytes(inputs)
    row = 0
    while row < rows:
        left = rows - row
        tiles = (left + 2) // 3
        count = (left + tiles - 1) // tiles
        at, s, t = x + row * stride, sums + row * sums_stride, scratch + 256 * row
        if count == 3:
            _n3(w, at, stride, inputs, s, t)
        elif count == 2:
            _n2(w, at, stride, inputs, s, t)
        else:
            _n1(w, at, stride, inputs, s, t)
        row += count
    finish_panel(op, 0, rows, panel, scratch)


@njit(nogil=True, cache=True)
def _unpack(w: int, inputs: int, out: int) -> None:
    """The bytes of a block."""
    at = w + BLOCK_HEAD
    for _ in range(inputs // GROUP):
        unpack_nibbles(at + PANEL, at, out)
        at += GROUP_BYTES
        out += GROUP * PANEL


@njit(nogil=True, cache=True)
def _pass(
    w: int, x: int, stride: int, inputs: int, sums: int, sums_stride: int, rows: int, totals: int,
    scales: int, ahead: int,
) -> None:  # fmt: skip
    """Tiles of rows over an unpacked block; the last ones ask for the next one's nibbles, which
    begin at `ahead`."""
    row = 0
    while row < rows:
        left = rows - row
        tiles = (left + 5) // 6
        count = (left + tiles - 1) // tiles
        at, s, t = x + row * stride, sums + row * sums_stride, totals + 256 * row
        near = ahead + (_ASKING_TILES - tiles) * 16 * inputs if tiles <= _ASKING_TILES else w
        if count == 6:
            _b6(w, at, stride, inputs, s, sums_stride, t, scales, near)
        elif count == 5:
            _b5(w, at, stride, inputs, s, sums_stride, t, scales, near)
        elif count == 4:
            _b4(w, at, stride, inputs, s, sums_stride, t, scales, near)
        elif count == 3:
            _b3(w, at, stride, inputs, s, sums_stride, t, scales, near)
        elif count == 2:
            _b2(w, at, stride, inputs, s, sums_stride, t, scales, near)
        else:
            _b1(w, at, stride, inputs, s, sums_stride, t, scales, near)
        row += count


@njit(nogil=True, cache=True)
def _many(op: int, first: int, rows: int, panel: int, w: int, scratch: int) -> None:
    """A panel's products with up to ROWS_AT_ONCE rows from the `first` on."""
    stride, inputs = get_i64(op + 24), get_i64(op + 80)
    sums_stride = sums_bytes(inputs)
    x = get_i64(op + 16) + first * stride
    sums = get_i64(op + 40) + first * sums_stride + inputs // 8
    totals = scratch + _UNPACKED
    for line in range(totals, totals + rows * 256, 64):
        store_f32(line, splat_f32(0.0))
    while inputs > 0:
        some = min(inputs, BLOCK)
        _unpack(w, some, scratch)
        after = w + BLOCK_HEAD + some // GROUP * GROUP_BYTES
        _pass(scratch, x, stride, some, sums, sums_stride, rows, totals, w, after)
        w = after
        x += BLOCK
        sums += 4
        inputs -= BLOCK
    finish_panel(op, first, rows, panel, totals)


@njit(nogil=True, cache=True)
def linear_i4(op: int, counter: int, thread: int, threads: int) -> None:
    """A kernel over all panels and rows."""
    rows = get_i64(get_i64(op + 8))
    panels, inputs, share = get_i64(op + 72), get_i64(op + 80), get_i64(op + 112)
    scratch = get_i64(op + 120) + thread * SCRATCH_BYTES
    size = blocks(inputs) * BLOCK_HEAD + inputs // GROUP * GROUP_BYTES
    while True:
        first = atomic_add(counter, share)
        if first >= panels:
            break
        for panel in range(first, min(first + share, panels)):
            w = get_i64(op + 48) + panel * size
            if rows <= FEW_ROWS:
                _few(op, rows, panel, w, scratch)
                continue
            for row in range(0, rows, ROWS_AT_ONCE):
                _many(op, row, min(rows - row, ROWS_AT_ONCE), panel, w, scratch)
