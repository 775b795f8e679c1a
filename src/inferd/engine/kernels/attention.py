"""Paged attention for prefill, decode and any mixture: K and V are read once for all query heads
that share them, and for several tokens of a prompt together.

The cache of a layer, in blocks of 32 slots: keys [block][kv_head][head_dim][slot], so that a dot
product runs along 16 slots at once; values [block][kv_head][slot][head_dim]. float32, bfloat16 or
int8 with a scale a slot and head, which multiplies scores and probabilities instead of the cache.
bfloat16 lies in the pairs that the processor multiplies at once: keys [head_dim / 2][slot][2],
values [slot / 2][head_dim][2]. Where it can, queries and probabilities are bfloat16 as well.

An item is the work that is never divided: one sequence, one KV head, up to 16 rows (a row is one
query head of one token). Softmax is computed online, block by block (Milakov and Gimelshein 2018;
Dao et al. 2022).
"""

from enum import IntEnum
from typing import Any

from numba import njit, types

from inferd.engine.kernels.elementwise import BLOCK
from inferd.engine.kernels.emit import HAS_BF16
from inferd.engine.kernels.team import atomic_add
from inferd.engine.kernels.tile import (
    load_tile_f32,
    store_tile,
    tile_dot_bf16,
    tile_fma_f32,
    tile_fma_i8,
    tile_fma_pairs,
    zero_tile_f32,
)
from inferd.engine.kernels.vector import (
    exp_f32,
    get_f32,
    get_i32,
    get_i64,
    keep_first,
    largest_f32,
    load_f32,
    max_f32,
    prefetch_64,
    prefetch_128,
    prefetch_256,
    put_f32,
    splat_f32,
    store_bf16,
    store_f32,
    sum_f32,
)

MOST_ROWS = 16
NEVER = -1e30


class Attention(IntEnum):
    """Words of attention. Queries are scaled already."""

    CODE = 0
    ITEMS_COUNT = 1
    ITEMS = 2  # int32 [item][sequence, kv head, first token, tokens]
    QKV = 3
    STRIDE = 4
    HEADS = 5
    KV_HEADS = 6
    HEAD_DIM = 7  # a multiple of 16
    K_CACHE = 8
    V_CACHE = 9
    KIND = 10
    TABLES = 11  # int32
    TABLE_WIDTH = 12  # blocks in a row of TABLES
    POSITIONS = 13
    OUT = 14  # float32 [token][head][dim]
    OUT_STRIDE = 15
    SCRATCH = 16
    SCRATCH_STRIDE = 17  # scratch_bytes(head_dim, query heads of a KV head)
    WINDOW = 18
    SOFTCAP = 19
    K_SCALES = 20
    V_SCALES = 21


def scratch_bytes(head_dim: int, group: int) -> int:
    """For each thread and each row: query, sum, scores, and 192 bytes of the softmax's state."""
    rows = max(MOST_ROWS, (group + 3) // 4 * 4)
    return rows * (2 * head_dim + BLOCK + 48) * 4


# A block lies anywhere in memory, so that the processor cannot know which comes next: while one is
# multiplied the next, at `ahead`, is asked for, line by line.


_PREFETCH = {64: prefetch_64, 128: prefetch_128, 256: prefetch_256}


def _scores(multiply: Any, width: int, pair: int, x_bytes: int) -> Any:
    """`width` bytes of a slot are multiplied at once, `pair` numbers, `x_bytes` of a query."""
    prefetch = _PREFETCH[max(BLOCK * width, 64)]

    @njit(nogil=True, cache=True)
    def scores(keys: int, queries: int, dim: int, out: int, ahead: int) -> None:
        acc = zero_tile_f32(4, 2)
        for _ in range(dim // pair):
            prefetch(ahead)
            acc = multiply(acc, keys, queries, 4 * dim)
            keys += BLOCK * width
            ahead += BLOCK * width
            queries += x_bytes
        store_tile(acc, out, 4 * BLOCK)

    return scores


def _mix(multiply: Any, width: int, pair: int, x_bytes: int, cols: int) -> Any:
    """`width` bytes of a column are multiplied at once, `pair` slots."""
    prefetch = _PREFETCH[max(16 * cols * width, 64)]

    @njit(nogil=True, cache=True)
    def mix(values: int, weights: int, slots: int, dim: int, out: int, ahead: int) -> None:
        acc = load_tile_f32(4, cols, out, 4 * dim)
        for _ in range((slots + pair - 1) // pair):
            prefetch(ahead)
            acc = multiply(acc, values, weights, 4 * BLOCK)
            values += dim * width
            ahead += dim * width
            weights += x_bytes
        store_tile(acc, out, 4 * dim)

    return mix


_F32, _I8 = (tile_fma_f32, 4, 1, 4), (tile_fma_i8, 1, 1, 4)
_BF16 = (tile_dot_bf16, 4, 2, 4) if HAS_BF16 else (tile_fma_pairs, 4, 2, 8)
_scores_f32, _scores_bf16, _scores_i8 = _scores(*_F32), _scores(*_BF16), _scores(*_I8)
_mix4_f32, _mix4_bf16, _mix4_i8 = _mix(*_F32, 4), _mix(*_BF16, 4), _mix(*_I8, 4)
_mix1_f32, _mix1_bf16, _mix1_i8 = _mix(*_F32, 1), _mix(*_BF16, 1), _mix(*_I8, 1)


@njit(nogil=True, cache=True)
def _mix_values(
    kind: int, values: int, weights: int, slots: int, dim: int, out: int, wide: bool, ahead: int
) -> None:
    """Four rows of sums += weights . values, 64 or 16 columns."""
    if kind == 0:
        if wide:
            _mix4_f32(values, weights, slots, dim, out, ahead)
        else:
            _mix1_f32(values, weights, slots, dim, out, ahead)
    elif kind == 1:
        if wide:
            _mix4_bf16(values, weights, slots, dim, out, ahead)
        else:
            _mix1_bf16(values, weights, slots, dim, out, ahead)
    elif wide:
        _mix4_i8(values, weights, slots, dim, out, ahead)
    else:
        _mix1_i8(values, weights, slots, dim, out, ahead)


@njit(nogil=True, cache=True)
def _soften(
    line: int, first: int, end: int, cap: float, k_scales: int, v_scales: int, sums: int, dim: int,
    state: int, narrow: bool,
) -> None:  # fmt: skip
    """One row of scores to probabilities; what was summed before is scaled to the new maximum.

    Slots outside [first, end) get 0; `narrow` probabilities are bfloat16. `state` holds the
    row's largest score and its total.
    """
    low, high = load_f32(line), load_f32(line + 64)
    if k_scales != 0:
        low, high = low * load_f32(k_scales), high * load_f32(k_scales + 64)
    if cap > 0.0:
        two, one, top = splat_f32(2.0 / cap), splat_f32(1.0), splat_f32(cap)
        a, b = exp_f32(low * two), exp_f32(high * two)
        low, high = top * ((a - one) / (a + one)), top * ((b - one) / (b + one))
    never = splat_f32(NEVER)
    low, high = (
        keep_first(low, types.int32(end), never),
        keep_first(high, types.int32(end - 16), never),
    )
    if first > 0:
        low = keep_first(never, types.int32(first), low)
        high = keep_first(never, types.int32(first - 16), high)
    before = get_f32(state)
    most = max(before, largest_f32(max_f32(low, high)))
    shift = splat_f32(most)
    low, high = exp_f32(low - shift), exp_f32(high - shift)
    total = sum_f32(low + high)
    if most > before:
        factor = exp_f32(splat_f32(before - most))
        store_f32(state + 128, factor)
        total += get_f32(state + 64) * get_f32(state + 128)
        for j in range(0, 4 * dim, 64):
            store_f32(sums + j, load_f32(sums + j) * factor)
        put_f32(state, most)
    else:
        total += get_f32(state + 64)
    put_f32(state + 64, total)
    if v_scales != 0:
        low, high = low * load_f32(v_scales), high * load_f32(v_scales + 64)
    if narrow:
        store_bf16(line, low)
        store_bf16(line + 32, high)
    else:
        store_f32(line, low)
        store_f32(line + 64, high)


@njit(nogil=True, cache=True)
def attend(op: int, counter: int, thread: int, threads: int) -> None:
    """All items; each thread takes the next."""
    count = get_i64(get_i64(op + 8))
    while True:
        item = atomic_add(counter, 1)
        if item >= count:
            break
        _attend_item(op, get_i64(op + 16) + 16 * item, thread)


@njit(nogil=True, cache=True)
def _attend_item(op: int, item: int, thread: int) -> None:
    sequence, kv_head = types.int64(get_i32(item)), types.int64(get_i32(item + 4))
    token, tokens = types.int64(get_i32(item + 8)), types.int64(get_i32(item + 12))
    stride, heads, kv_heads, dim = (
        get_i64(op + 32), get_i64(op + 40), get_i64(op + 48), get_i64(op + 56)
    )  # fmt: skip
    kind, window = get_i64(op + 80), get_i64(op + 144)
    cap = get_f32(op + 152)
    width = 4 if kind == 0 else (2 if kind == 1 else 1)
    column = 1 if kind == 3 else 4
    narrow = HAS_BF16 and kind == 1
    group = heads // kv_heads
    rows = tokens * group
    queries = get_i64(op + 128) + thread * get_i64(op + 136)
    most_rows = max(MOST_ROWS, (group + 3) // 4 * 4)
    sums = queries + most_rows * dim * 4
    lines = sums + most_rows * dim * 4
    state = lines + most_rows * BLOCK * 4
    whole = (rows + 3) // 4 * 4
    zero = splat_f32(0.0)
    for row in range(whole):
        source = (
            get_i64(op + 24)
            + (token + min(row, rows - 1) // group) * stride
            + (kv_head * group + min(row, rows - 1) % group) * dim * 4
        )
        for j in range(0, 4 * dim, 64):
            if narrow:
                store_bf16(queries + row * dim * 4 + j // 2, load_f32(source + j))
            else:
                store_f32(queries + row * dim * 4 + j, load_f32(source + j))
            store_f32(sums + row * dim * 4 + j, zero)
        put_f32(state + row * 192, NEVER)
        put_f32(state + row * 192 + 64, 0.0)
    positions = get_i64(op + 104)
    first_position = types.int64(get_i32(positions + 4 * token))
    last_position = first_position + tokens - 1
    start = max(0, first_position - window + 1) // BLOCK if window > 0 else 0
    table = get_i64(op + 88) + sequence * get_i64(op + 96) * 4
    for number in range(start, last_position // BLOCK + 1):
        block = types.int64(get_i32(table + 4 * number))
        place = (block * kv_heads + kv_head) * dim * BLOCK * width
        mark = (block * kv_heads + kv_head) * BLOCK * 4
        keys, values = get_i64(op + 64) + place, get_i64(op + 72) + place
        k_scales = get_i64(op + 160) + mark if kind == 3 else 0
        v_scales = get_i64(op + 168) + mark if kind == 3 else 0
        next_keys, next_values = keys, values
        if number < last_position // BLOCK:
            block = types.int64(get_i32(table + 4 * number + 4))
            place = (block * kv_heads + kv_head) * dim * BLOCK * width
            next_keys, next_values = get_i64(op + 64) + place, get_i64(op + 72) + place
        base = number * BLOCK
        slots = min(BLOCK, last_position - base + 1)
        for row in range(0, whole, 4):
            q, line = queries + row * dim * 4, lines + row * BLOCK * 4
            if kind == 0:
                _scores_f32(keys, q, dim, line, next_keys)
            elif kind == 1:
                _scores_bf16(keys, q, dim, line, next_keys)
            else:
                _scores_i8(keys, q, dim, line, next_keys)
            for r in range(row, row + 4):
                position = first_position + min(r, rows - 1) // group
                end = min(BLOCK, position - base + 1)
                low = max(0, position - window + 1 - base) if window > 0 else 0
                at = lines + r * BLOCK * 4
                if end <= low:
                    store_f32(at, zero)
                    store_f32(at + 64, zero)
                else:
                    _soften(
                        at, low, end, cap, k_scales, v_scales, sums + r * dim * 4, dim,
                        state + r * 192, narrow,
                    )  # fmt: skip
            col = 0
            while col < dim:
                wide = col + 64 <= dim
                _mix_values(
                    kind, values + col * column, line, slots, dim, sums + (row * dim + col) * 4,
                    wide, next_values + col * column,
                )  # fmt: skip
                col += 64 if wide else 16
    for row in range(rows):
        factor = splat_f32(1.0 / get_f32(state + row * 192 + 64))
        target = (
            get_i64(op + 112)
            + (token + row // group) * get_i64(op + 120)
            + (kv_head * group + row % group) * dim * 4
        )
        for j in range(0, 4 * dim, 64):
            store_f32(target + j, load_f32(sums + row * dim * 4 + j) * factor)


@njit(nogil=True, cache=True)
def plan_items(query_start: Any, kv_heads: int, group: int, items: Any) -> int:
    """Fill `items` [most, 4] for sequences whose tokens `query_start` divides; gives their number.

    Long sequences of new tokens come first: what is left for the end is small.
    """
    most = max(1, MOST_ROWS // group)
    count = 0
    for several in (True, False):
        for sequence in range(len(query_start) - 1):
            first, end = query_start[sequence], query_start[sequence + 1]
            if (end - first > 1) != several:
                continue
            token = first + (end - first - 1) // most * most
            while token >= first:
                for head in range(kv_heads):
                    items[count, 0] = sequence
                    items[count, 1] = head
                    items[count, 2] = token
                    items[count, 3] = min(most, end - token)
                    count += 1
                token -= most
    return count


@njit(nogil=True, cache=True)
def plan_picked_items(query_start: Any, picks: Any, kv_heads: int, group: int, items: Any) -> int:
    """The same for the tokens `picks` alone; neighbours share an item. `items` has room for each
    of them by itself."""
    most = max(1, MOST_ROWS // group)
    count, sequence, at = 0, 0, 0
    while at < len(picks):
        token = picks[at]
        if token < query_start[sequence]:
            sequence = 0
        while token >= query_start[sequence + 1]:
            sequence += 1
        tokens = 1
        while (
            tokens < most
            and at + tokens < len(picks)
            and picks[at + tokens] == token + tokens
            and token + tokens < query_start[sequence + 1]
        ):
            tokens += 1
        for head in range(kv_heads):
            items[count, 0] = sequence
            items[count, 1] = head
            items[count, 2] = token
            items[count, 3] = tokens
            count += 1
        at += tokens
    return count


def most_items(tokens: int, sequences: int, kv_heads: int, group: int) -> int:
    """How many items a step can have at most."""
    most = max(1, MOST_ROWS // group)
    return kv_heads * (tokens // most + sequences)
