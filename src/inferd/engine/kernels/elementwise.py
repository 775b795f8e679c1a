"""What lies between the products, each pass over a row fused with the next: embedding, norm and
quantise, rotary and cache write, residual norms.

Forms in which a row can be handed to a product: F32 and BF16 as they are; I8 as int8 with one
scale (largest magnitude / 127) and -128 times its sum; I8_GROUPS the same with -8 times the sum of
each 32 elements. Rows are shared between the threads.
"""

from enum import IntEnum

from numba import njit, types

from inferd.engine.kernels.linear_i4 import BLOCK as I4_BLOCK
from inferd.engine.kernels.linear_i4 import sums_bytes
from inferd.engine.kernels.team import atomic_add
from inferd.engine.kernels.vector import (
    abs_f32,
    fma,
    get_f32,
    get_i32,
    get_i64,
    largest_f32,
    load_bf16,
    load_f16,
    load_f32,
    max_f32,
    put_f32,
    put_i8,
    put_i16,
    put_i32,
    round_i32,
    splat_f32,
    splat_i32,
    store_bf16,
    store_f32,
    store_i8,
    sum_f32,
    sum_i32,
)


class Form(IntEnum):
    """How a row is written."""

    F32 = 0
    BF16 = 1
    I8 = 2
    I8_GROUPS = 3


class Kind(IntEnum):
    """How numbers lie in a table or in the cache."""

    F32 = 0
    BF16 = 1
    F16 = 2
    I8 = 3


class Embed(IntEnum):
    """Words of an embedding."""

    CODE = 0
    ROWS = 1
    TOKENS = 2  # int32
    TABLE = 3
    KIND = 4
    SIZE = 5  # elements of a row, a multiple of 16
    SCALE = 6  # float32
    OUT = 7
    STRIDE = 8
    POSITIONS = 9  # int32
    POSITION_TABLE = 10  # float32, or 0


class Norm(IntEnum):
    """Words of a norm with conversion; without a weight only the conversion is done."""

    CODE = 0
    ROWS = 1
    X = 2
    X_STRIDE = 3
    WEIGHT = 4  # float32, or 0
    BIAS = 5  # float32: then it is a layer norm; 0: root mean square
    EPS = 6
    SIZE = 7  # a multiple of 32
    OUT = 8
    OUT_STRIDE = 9
    SCALES = 10
    SUMS = 11
    FORM = 12
    SCRATCH = 13  # SIZE floats a thread
    PICK = 14  # int32 row numbers, or 0 for all rows in order


class AddNorm(IntEnum):
    """Words of out += norm(x)."""

    CODE = 0
    ROWS = 1
    X = 2
    X_STRIDE = 3
    WEIGHT = 4
    BIAS = 5
    EPS = 6
    SIZE = 7
    OUT = 8
    OUT_STRIDE = 9
    SCRATCH = 13


class Rotate(IntEnum):
    """Words of rotary embedding and cache write; see Attention for the cache's layout."""

    CODE = 0
    ROWS = 1
    QKV = 2  # float32, in place; queries are scaled too
    STRIDE = 3
    HEADS = 4
    KV_HEADS = 5
    HEAD_DIM = 6
    Q_NORM = 7  # float32, or 0
    K_NORM = 8
    EPS = 9
    POSITIONS = 10
    ANGLES = 11  # float32 [position][cosines, sines][HALF], or 0
    HALF = 12  # pairs rotated
    SLOTS = 13
    K_CACHE = 14
    V_CACHE = 15
    KIND = 16
    SCALE = 18
    K_SCALES = 19  # float32 a slot and head (I8)
    V_SCALES = 20
    LONG_ANGLES = 21  # instead of ANGLES where the sequence is longer than LONG_FROM
    LONG_FROM = 22
    LENGTHS = 23  # int32 a token: length of its sequence (only where LONG_FROM is not 0)


BLOCK = 32
"""Slots of a block of the cache."""


@njit(nogil=True, cache=True)
def write_row(x: int, size: int, form: int, out: int, scale_at: int, sums: int) -> None:
    """A row of floats in the form that a product takes."""
    if form == 0:
        for j in range(0, 4 * size, 64):
            store_f32(out + j, load_f32(x + j))
        return
    if form == 1:
        for j in range(0, size, 16):
            store_bf16(out + 2 * j, load_f32(x + 4 * j))
        return
    most = splat_f32(0.0)
    for j in range(0, 4 * size, 64):
        most = max_f32(most, abs_f32(load_f32(x + j)))
    largest = largest_f32(most)
    scale = largest / 127.0
    put_f32(scale_at, scale)
    inverse = splat_f32(127.0 / largest if largest > 0.0 else 0.0)
    total = splat_i32(0)
    block_sums = sums + size // 8
    for j in range(0, size, 32):
        low = round_i32(load_f32(x + 4 * j) * inverse)
        high = round_i32(load_f32(x + 4 * j + 64) * inverse)
        store_i8(out + j, low)
        store_i8(out + j + 16, high)
        total = total + low + high
        if form == 3:
            put_i32(sums + j // 8, -8 * sum_i32(low + high))
            if (j + 32) % I4_BLOCK == 0 or j + 32 == size:
                put_i32(block_sums + j // I4_BLOCK * 4, -128 * sum_i32(total))
                total = splat_i32(0)
    if form == 2:
        put_i32(sums, -128 * sum_i32(total))


@njit(nogil=True, cache=True)
def norm_row(x: int, size: int, weight: int, bias: int, eps: float, out: int) -> None:
    """out = norm(x), in float32; root mean square without a bias, else a layer norm."""
    mean = 0.0
    if bias != 0:
        total = splat_f32(0.0)
        for j in range(0, 4 * size, 64):
            total = total + load_f32(x + j)
        mean = sum_f32(total) / size
    offset = splat_f32(-mean)
    squares = splat_f32(0.0)
    for j in range(0, 4 * size, 64):
        a = load_f32(x + j) + offset
        squares = fma(a, a, squares)
    factor = splat_f32(1.0 / (sum_f32(squares) / size + eps) ** 0.5)
    for j in range(0, 4 * size, 64):
        y = (load_f32(x + j) + offset) * factor * load_f32(weight + j)
        if bias != 0:
            y = y + load_f32(bias + j)
        store_f32(out + j, y)


@njit(nogil=True, cache=True)
def embed(op: int, counter: int, thread: int, threads: int) -> None:
    """out[row] = table[token] * scale + positions[position]."""
    rows = get_i64(get_i64(op + 8))
    tokens, table, kind, size = (
        get_i64(op + 16), get_i64(op + 24), get_i64(op + 32), get_i64(op + 40)
    )  # fmt: skip
    scale = splat_f32(get_f32(op + 48))
    out, stride, positions, more = (
        get_i64(op + 56), get_i64(op + 64), get_i64(op + 72), get_i64(op + 80)
    )  # fmt: skip
    while True:
        row = atomic_add(counter, 1)
        if row >= rows:
            break
        token = types.int64(get_i32(tokens + 4 * row))
        y = out + row * stride
        if kind == 0:
            for j in range(0, size, 16):
                store_f32(y + 4 * j, load_f32(table + (token * size + j) * 4) * scale)
        elif kind == 1:
            for j in range(0, size, 16):
                store_f32(y + 4 * j, load_bf16(table + (token * size + j) * 2) * scale)
        else:
            for j in range(0, size, 16):
                store_f32(y + 4 * j, load_f16(table + (token * size + j) * 2) * scale)
        if more != 0:
            line = more + types.int64(get_i32(positions + 4 * row)) * size * 4
            for j in range(0, 4 * size, 64):
                store_f32(y + j, load_f32(y + j) + load_f32(line + j))


@njit(nogil=True, cache=True)
def norm(op: int, counter: int, thread: int, threads: int) -> None:
    """Each row normed and written in the form that the next product takes."""
    rows = get_i64(get_i64(op + 8))
    stride, weight, bias = get_i64(op + 24), get_i64(op + 32), get_i64(op + 40)
    eps, size = get_f32(op + 48), get_i64(op + 56)
    out_stride, form = get_i64(op + 72), get_i64(op + 96)
    scratch, pick = get_i64(op + 104) + thread * size * 4, get_i64(op + 112)
    sums_stride = sums_bytes(size) if form == 3 else 4
    while True:
        row = atomic_add(counter, 1)
        if row >= rows:
            break
        source = types.int64(get_i32(pick + 4 * row)) if pick != 0 else row
        x = get_i64(op + 16) + source * stride
        if weight != 0:
            norm_row(x, size, weight, bias, eps, scratch)
            x = scratch
        sums = get_i64(op + 88) + row * sums_stride
        write_row(
            x, size, form, get_i64(op + 64) + row * out_stride, get_i64(op + 80) + 4 * row, sums
        )


@njit(nogil=True, cache=True)
def add_norm(op: int, counter: int, thread: int, threads: int) -> None:
    """out += norm(x)."""
    rows = get_i64(get_i64(op + 8))
    size = get_i64(op + 56)
    scratch = get_i64(op + 104) + thread * size * 4
    while True:
        row = atomic_add(counter, 1)
        if row >= rows:
            break
        x = get_i64(op + 16) + row * get_i64(op + 24)
        norm_row(x, size, get_i64(op + 32), get_i64(op + 40), get_f32(op + 48), scratch)
        y = get_i64(op + 64) + row * get_i64(op + 72)
        for j in range(0, 4 * size, 64):
            store_f32(y + j, load_f32(y + j) + load_f32(scratch + j))


@njit(nogil=True, cache=True)
def _rotate_head(head: int, cosines: int, half: int) -> None:
    """The first 2 half elements of a head, halves rotated."""
    sines = cosines + 4 * half
    other = head + 4 * half
    if half % 16 == 0:
        for j in range(0, 4 * half, 64):
            a, b = load_f32(head + j), load_f32(other + j)
            c, s = load_f32(cosines + j), load_f32(sines + j)
            store_f32(head + j, a * c - b * s)
            store_f32(other + j, b * c + a * s)
        return
    for j in range(0, 4 * half, 4):
        x, y = get_f32(head + j), get_f32(other + j)
        u, v = get_f32(cosines + j), get_f32(sines + j)
        put_f32(head + j, x * u - y * v)
        put_f32(other + j, y * u + x * v)


@njit(nogil=True, cache=True)
def _bfloat16(at: int) -> int:
    """Bits of the float there, rounded to the nearest, ties to even."""
    bits = types.uint32(get_i32(at))
    return types.int32((bits + types.uint32(0x7FFF + ((bits >> 16) & 1))) >> 16)


@njit(nogil=True, cache=True)
def _write_key_pairs(x: int, size: int, out: int) -> None:
    for d in range(0, size, 2):
        pair = _bfloat16(x + 4 * d) | (_bfloat16(x + 4 * d + 4) << 16)
        put_i32(out + 2 * d * BLOCK, types.int32(pair))


@njit(nogil=True, cache=True)
def _write_value_halves(x: int, size: int, out: int) -> None:
    """What is no number becomes 0: the other half of a pair may be another sequence's once, and
    0 times NaN would reach it. The sequence itself is lost all the same."""
    for d in range(size):
        finite = (get_i32(x + 4 * d) & 0x7F800000) != 0x7F800000
        put_i16(out + 4 * d, types.int32(_bfloat16(x + 4 * d)) if finite else types.int32(0))


@njit(nogil=True, cache=True)
def _write_slot(x: int, size: int, step: int, kind: int, out: int, scale_at: int) -> None:
    """A head's vector to the cache, `step` elements from one to the next."""
    if kind == 0:
        for d in range(size):
            put_f32(out + 4 * d * step, get_f32(x + 4 * d))
        return
    largest = types.float32(0.0)
    for d in range(size):
        largest = max(largest, abs(get_f32(x + 4 * d)))
    put_f32(scale_at, largest / types.float32(127.0))
    inverse = types.float32(127.0) / largest if largest > 0.0 else types.float32(0.0)
    for d in range(size):
        put_i8(out + d * step, types.int32(round(get_f32(x + 4 * d) * inverse)))


@njit(nogil=True, cache=True)
def rotate(op: int, counter: int, thread: int, threads: int) -> None:
    """Per token: norms of heads, rotation, scale of queries; keys and values into the cache."""
    rows = get_i64(get_i64(op + 8))
    heads, kv_heads, dim = get_i64(op + 32), get_i64(op + 40), get_i64(op + 48)
    q_norm, k_norm, eps = get_i64(op + 56), get_i64(op + 64), get_f32(op + 72)
    half, kind = get_i64(op + 96), get_i64(op + 128)
    width = 4 if kind == 0 else (2 if kind == 1 else 1)
    scale = splat_f32(get_f32(op + 144))
    long_from = get_i64(op + 176)
    head_bytes = 4 * dim
    while True:
        row = atomic_add(counter, 1)
        if row >= rows:
            break
        line = get_i64(op + 16) + row * get_i64(op + 24)
        angles = get_i64(op + 88)
        if long_from != 0 and get_i32(get_i64(op + 184) + 4 * row) > long_from:
            angles = get_i64(op + 168)
        if angles != 0:
            angles += types.int64(get_i32(get_i64(op + 80) + 4 * row)) * 8 * half
        for head in range(heads + kv_heads):
            at = line + head * head_bytes
            weight = q_norm if head < heads else k_norm
            if weight != 0:
                norm_row(at, dim, weight, 0, eps, at)
            if angles != 0:
                _rotate_head(at, angles, half)
            if head < heads:
                for j in range(0, head_bytes, 64):
                    store_f32(at + j, load_f32(at + j) * scale)
        slot = types.int64(get_i32(get_i64(op + 104) + 4 * row))
        block, offset = slot // BLOCK, slot % BLOCK
        for head in range(kv_heads):
            place = (block * kv_heads + head) * dim * BLOCK
            mark = ((block * kv_heads + head) * BLOCK + offset) * 4
            key = line + (heads + head) * head_bytes
            value = key + kv_heads * head_bytes
            keys, values = get_i64(op + 112) + place * width, get_i64(op + 120) + place * width
            if kind == 1:  # in pairs, see `attention`
                _write_key_pairs(key, dim, keys + 4 * offset)
                _write_value_halves(value, dim, values + offset // 2 * dim * 4 + offset % 2 * 2)
                continue
            scale_at = get_i64(op + 152) + mark
            _write_slot(key, dim, BLOCK, kind, keys + offset * width, scale_at)
            scale_at = get_i64(op + 160) + mark
            _write_slot(value, dim, 1, kind, values + offset * dim * width, scale_at)
