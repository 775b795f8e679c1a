"""Weights as the products want them (see `linear`), from the rows of a checkpoint.

A row is given by its address, so that rows of several tensors can be interleaved and nothing is
copied before; address 0 is a row of zeros. Rows are float32, bfloat16 or float16.

int8: scale = largest magnitude of the row / 127, rounded to the nearest. int4: each number is
scale * m * (q - 8) with q in 0..15, an m in -15..15 for each 32 inputs and a scale for each 256. A
group's number of largest magnitude starts at -8 or 7, and somewhat smaller steps are tried; then
the scale that brings the largest step of the 256 to m = 15, and scales about it, and for each the
multipliers about the best step: what is kept has the least squared error of what was tried.
"""

from typing import Any

from numba import njit, types

from inferd.engine.kernels.linear import PANEL
from inferd.engine.kernels.linear_i4 import BLOCK, BLOCK_HEAD, GROUP, GROUP_BYTES, blocks
from inferd.engine.kernels.vector import (
    abs_f32,
    fma,
    get_f16,
    get_f32,
    get_i32,
    largest_f32,
    load_bf16,
    load_f16,
    load_f32,
    max_f32,
    min_f32,
    put_f16,
    put_f32,
    put_i8,
    put_i32,
    round_i32,
    splat_f32,
    splat_i32,
    store_bf16,
    store_f32,
    store_i8,
    sum_f32,
    to_f32,
)

INPUT_BYTES = {"i8": 64, "bf16": 128, "f32": 256}
"""Bytes of a panel for each input."""

_STEPS = (1.0, 0.9, 0.8)
_SCALES = (1.0, 0.95, 1.05)
_GROUPS = BLOCK // GROUP


def panel_bytes(form: str, inputs: int) -> int:
    """Bytes of a panel of 64 outputs."""
    if form == "i4":
        return blocks(inputs) * BLOCK_HEAD + inputs // GROUP * GROUP_BYTES
    return inputs * INPUT_BYTES[form]


@njit(nogil=True, cache=True)
def _read_row(source: int, kind: int, inputs: int, row: int) -> None:
    """A row of the checkpoint as float32."""
    for j in range(0, inputs, 16):
        if source == 0:
            store_f32(row + 4 * j, splat_f32(0.0))
        elif kind == 0:
            store_f32(row + 4 * j, load_f32(source + 4 * j))
        elif kind == 1:
            store_f32(row + 4 * j, load_bf16(source + 2 * j))
        else:
            store_f32(row + 4 * j, load_f16(source + 2 * j))


@njit(nogil=True, cache=True)
def _pack_row_i8(row: int, inputs: int, out: int, scale_at: int) -> None:
    """`out` is the row's place in its panel; 4 inputs lie together, the next 256 bytes on."""
    most = splat_f32(0.0)
    for j in range(0, 4 * inputs, 64):
        most = max_f32(most, abs_f32(load_f32(row + j)))
    largest = largest_f32(most)
    put_f32(scale_at, largest / 127.0)
    inverse = splat_f32(127.0 / largest if largest > 0.0 else 0.0)
    for j in range(0, inputs, 16):
        store_i8(row, round_i32(load_f32(row + 4 * j) * inverse) + splat_i32(128))
        # The first 16 bytes of the row are free: for j = 0 they have just been read.
        for part in range(4):
            put_i32(out + (j // 4 + part) * 256, get_i32(row + 4 * part))


@njit(nogil=True, cache=True)
def _squared_error(low: Any, high: Any, scale: float) -> float:
    factor, inverse = splat_f32(scale), splat_f32(1.0 / scale)
    least, most = splat_f32(-8.0), splat_f32(7.0)
    a = min_f32(max_f32(to_f32(round_i32(low * inverse)), least), most)
    b = min_f32(max_f32(to_f32(round_i32(high * inverse)), least), most)
    da, db = low - a * factor, high - b * factor
    return sum_f32(fma(da, da, db * db))


@njit(nogil=True, cache=True)
def _best_step(low: Any, high: Any) -> float:
    """The step that a group of 32 would like to have; 0 if all of it is 0."""
    zero = splat_f32(0.0)
    positive = largest_f32(max_f32(low, high))
    negative = largest_f32(max_f32(zero - low, zero - high))
    extreme = positive if positive > negative else -negative
    best, best_error = types.float32(0.0), types.float32(3.4e38)
    if extreme != 0.0:
        for end in (-8.0, 7.0):
            for factor in _STEPS:
                step = types.float32(extreme / end * factor)
                error = (
                    types.float32(_squared_error(low, high, step)) if step != 0.0 else best_error
                )
                if error < best_error:
                    best, best_error = step, error
    return best


@njit(nogil=True, cache=True)
def _multiply_best(row: int, groups: int, steps: int, scale: float, multipliers: int) -> float:
    """Choose each group's multiplier for a scale; gives the squared error of them all."""
    total = types.float32(0.0)
    for group in range(groups):
        low, high = load_f32(row + 128 * group), load_f32(row + 128 * group + 64)
        nearest = round(get_f32(steps + 4 * group) / scale)
        best, best_error = types.int32(0), types.float32(sum_f32(fma(low, low, high * high)))
        for m in range(max(nearest - 1, -15), min(nearest + 1, 15) + 1):
            if m != 0:
                error = types.float32(_squared_error(low, high, types.float32(m * scale)))
                if error < best_error:
                    best, best_error = types.int32(m), error
        put_i32(multipliers + 4 * group, best)
        total += best_error
    return total


@njit(nogil=True, cache=True)
def _pack_block_i4(row: int, groups: int, out: int, lane: int, scratch: int) -> None:
    """Up to 256 inputs of row number `lane` of a panel; `scratch` has 128 bytes."""
    steps, tried, kept = scratch, scratch + 4 * _GROUPS, scratch + 8 * _GROUPS
    largest = types.float32(0.0)
    for group in range(groups):
        at = row + 128 * group
        step = types.float32(_best_step(load_f32(at), load_f32(at + 64)))
        put_f32(steps + 4 * group, step)
        put_i32(kept + 4 * group, 0)
        largest = max(largest, abs(step))
    scale, least = types.float32(0.0), types.float32(3.4e38)
    if largest != 0.0:
        for factor in _SCALES:
            put_f16(out + 2 * lane, types.float32(largest / 15.0 * factor))
            some = get_f16(out + 2 * lane)
            if some == 0.0:
                continue
            error = types.float32(_multiply_best(row, groups, steps, some, tried))
            if error < least:
                scale, least = some, error
                for group in range(groups):
                    put_i32(kept + 4 * group, get_i32(tried + 4 * group))
    put_f16(out + 2 * lane, scale)
    for group in range(groups):
        m = get_i32(kept + 4 * group)
        _pack_group_i4(
            row + 128 * group, types.float32(m * scale),
            out + BLOCK_HEAD + GROUP_BYTES * group, lane, tried,
        )  # fmt: skip
        put_i8(out + BLOCK_HEAD + GROUP_BYTES * group + lane, m)


@njit(nogil=True, cache=True)
def _pack_group_i4(row: int, step: float, out: int, lane: int, scratch: int) -> None:
    inverse = splat_f32(1.0 / step if step != 0.0 else 0.0)
    least, most = splat_f32(-8.0), splat_f32(7.0)
    eight = splat_i32(8)
    for half in range(2):
        q = min_f32(max_f32(load_f32(row + 64 * half) * inverse, least), most)
        store_i8(scratch + 16 * half, round_i32(q) + eight)
    for chunk in range(4):
        first, second = get_i32(scratch + 8 * chunk), get_i32(scratch + 8 * chunk + 4)
        put_i32(out + PANEL + 256 * chunk + 4 * lane, first | (second << 4))


@njit(nogil=True, cache=True)
def _pack_row_i4(row: int, inputs: int, out: int, lane: int, scratch: int) -> None:
    """Row number `lane` of the panel at `out`."""
    for first in range(0, inputs, BLOCK):
        groups = min(inputs - first, BLOCK) // GROUP
        _pack_block_i4(row + 4 * first, groups, out, lane, scratch)
        out += BLOCK_HEAD + groups * GROUP_BYTES


@njit(nogil=True, cache=True)
def pack_panels(
    form: int, rows: Any, kind: int, inputs: int, size: int, out: int, scales: int, first: int,
    end: int, scratch: int,
) -> None:  # fmt: skip
    """Panels first to end, of `size` bytes each, of a weight whose rows begin at the addresses
    `rows`.

    `form` is 0 f32, 1 bf16, 2 i8, 3 i4; `kind` of the rows 0 f32, 1 bf16, 2 f16; `scratch` has
    4 * inputs + 128 bytes.
    """
    for panel in range(first, end):
        place = out + panel * size
        for lane in range(PANEL):
            number = panel * PANEL + lane
            _read_row(rows[number], kind, inputs, scratch)
            if form == 2:
                _pack_row_i8(scratch, inputs, place + 4 * lane, scales + 4 * number)
            elif form == 3:
                _pack_row_i4(scratch, inputs, place, lane, scratch + 4 * inputs)
            elif form == 1:
                for j in range(0, inputs, 16):
                    store_bf16(scratch, load_f32(scratch + 4 * j))
                    for part in range(8):
                        put_i32(
                            place + (j // 2 + part) * 256 + 4 * lane, get_i32(scratch + 4 * part)
                        )
            else:
                for j in range(inputs):
                    put_f32(place + j * 256 + 4 * lane, get_f32(scratch + 4 * j))
