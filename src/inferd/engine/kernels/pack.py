"""Weights as the products want them (see `linear`), from the rows of a checkpoint.

A row is given by its address, so that rows of several tensors can be interleaved and nothing is
copied before; address 0 is a row of zeros. Rows are float32, bfloat16 or float16.

int8: scale = largest magnitude of the row / 127, rounded to the nearest. int4, groups of 32: each
number is scale * (q - 8) with q in 0..15. The number of largest magnitude starts at -8 scale, as
in llama.cpp's Q4_0, and somewhat smaller scales are tried: the one with the least squared error is
kept, which is never worse.
"""

from typing import Any

from numba import njit, types

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

PANEL = {"i8": 64, "i4": 32, "bf16": 64, "f32": 64}
"""Outputs of a panel."""

INPUT_BYTES = {"i8": 64, "i4": 18, "bf16": 128, "f32": 256}
"""Bytes of a panel for each input."""

_CANDIDATES = 14


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
def _pack_row_i4(row: int, inputs: int, out: int, lane: int, scratch: int) -> None:
    """Row number `lane` of the panel at `out`."""
    for group in range(inputs // 32):
        at = row + 128 * group
        low, high = load_f32(at), load_f32(at + 64)
        zero = splat_f32(0.0)
        positive = largest_f32(max_f32(low, high))
        negative = largest_f32(max_f32(zero - low, zero - high))
        extreme = positive if positive > negative else -negative
        base = extreme / -8.0
        best, best_error = types.float32(0.0), types.float32(3.4e38)
        if extreme != 0.0:
            for candidate in range(2 * _CANDIDATES):
                # The number of largest magnitude as -8 or as 7, a little less or a little more.
                step = base if candidate < _CANDIDATES else base * (-8.0 / 7.0)
                factor = 1.04 - 0.02 * (candidate % _CANDIDATES)
                put_f16(scratch, types.float32(step * factor))
                scale = get_f16(scratch)
                if scale != 0.0:
                    error = types.float32(_squared_error(low, high, scale))
                    if error < best_error:
                        best, best_error = scale, error
        place = out + 576 * group
        put_f16(place + 2 * lane, best)
        inverse = splat_f32(1.0 / best if best != 0.0 else 0.0)
        least, most = splat_f32(-8.0), splat_f32(7.0)
        eight = splat_i32(8)
        a = round_i32(min_f32(max_f32(low * inverse, least), most)) + eight
        b = round_i32(min_f32(max_f32(high * inverse, least), most)) + eight
        store_i8(scratch, a)
        store_i8(scratch + 16, b)
        for chunk in range(4):
            first, second = get_i32(scratch + 8 * chunk), get_i32(scratch + 8 * chunk + 4)
            put_i32(place + 64 + 128 * chunk + 4 * lane, first | (second << 4))


@njit(nogil=True, cache=True)
def pack_panels(
    form: int, rows: Any, kind: int, inputs: int, out: int, scales: int, first: int, end: int,
    scratch: int,
) -> None:  # fmt: skip
    """Panels first to end of a weight whose rows begin at the addresses `rows`.

    `form` is 0 f32, 1 bf16, 2 i8, 3 i4; `kind` of the rows 0 f32, 1 bf16, 2 f16; `scratch` has
    4 * inputs + 64 bytes.
    """
    width = 32 if form == 3 else 64
    per_input = 18 if form == 3 else (64 if form == 2 else (128 if form == 1 else 256))
    for panel in range(first, end):
        place = out + panel * inputs * per_input
        for lane in range(width):
            number = panel * width + lane
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
