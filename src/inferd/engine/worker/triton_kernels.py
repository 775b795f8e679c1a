"""The Triton kernels of attention over a paged cache; `triton_attention` launches them.

Upper-case arguments are constants that a kernel is compiled for. Numbers that change from step to
step are not specialised on, or each value would be compiled for, too.
"""

# A kernel is no Python for a type checker: it is compiled, and its arguments are pointers.
# mypy: ignore-errors

import math

import torch
import triton
import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def write_kernel(
    keys, values, key_cache, value_cache, slots, key_token, key_head, value_token, value_head,
    NUMBERS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A token's keys and values into its slot."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    number = tl.arange(0, BLOCK)
    there = number < NUMBERS
    head, dim = number // HEAD_DIM, number % HEAD_DIM
    key = tl.load(keys + token * key_token + head * key_head + dim, mask=there)
    value = tl.load(values + token * value_token + head * value_head + dim, mask=there)
    tl.store(key_cache + slot * NUMBERS + number, key, mask=there)
    tl.store(value_cache + slot * NUMBERS + number, value, mask=there)


@triton.jit
def _walk(
    query, position, first, end, table, key_cache, value_cache, head,
    ROWS: tl.constexpr, TILE: tl.constexpr, BLOCK_SIZE: tl.constexpr, KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr, DIMS: tl.constexpr, SCALE: tl.constexpr, SOFTCAP: tl.constexpr,
    WINDOW: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """What queries [ROWS, DIMS] at `position` [ROWS] see of the tokens `first` to `end`: values
    weighted but not divided, the sum of their weights, and the score that has weight 1."""
    dim = tl.arange(0, DIMS)
    real = dim < HEAD_DIM
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    seen = tl.zeros([ROWS, DIMS], tl.float32)
    for start in range(first, end, TILE):
        token = start + tl.arange(0, TILE)
        there = token < end
        block = tl.load(table + token // BLOCK_SIZE, mask=there, other=0).to(tl.int64)
        row = ((block * BLOCK_SIZE + token % BLOCK_SIZE) * KV_HEADS + head) * HEAD_DIM
        key = tl.load(
            key_cache + row[None, :] + dim[:, None], mask=there[None, :] & real[:, None], other=0.0
        )
        score = tl.dot(query, key.to(PRODUCTS), input_precision="ieee") * SCALE
        if SOFTCAP > 0:  # tanh, by way of what every device has
            small = tl.exp(tl.abs(score) * (-2 / SOFTCAP))
            capped = SOFTCAP * (1 - small) / (1 + small)
            score = tl.where(score < 0, -capped, capped)
        visible = (token[None, :] <= position[:, None]) & there[None, :]
        if WINDOW > 0:
            visible = visible & (position[:, None] - token[None, :] < WINDOW)
        score = tl.where(visible, score * LOG2_E, float("-inf"))
        new_top = tl.maximum(top, tl.max(score, 1))
        # A row that has seen nothing yet must not become infinity less infinity.
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(score - base[:, None])
        shrink = tl.exp2(top - base)
        value = tl.load(
            value_cache + row[:, None] + dim[None, :],
            mask=there[:, None] & real[None, :],
            other=0.0,
        ).to(PRODUCTS)
        total = total * shrink + tl.sum(weight, 1)
        seen = seen * shrink[:, None]
        seen += tl.dot(weight.to(PRODUCTS), value, input_precision="ieee")
        top = new_top
    return seen, total, top


@triton.jit(do_not_specialize=["sequences", "table_row"])
def prefill_kernel(
    out, queries, key_cache, value_cache, tables, query_start, seq_lens, sequences, table_row,
    query_token, query_head, ROWS: tl.constexpr, TILE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr,
    DIMS: tl.constexpr, SCALE: tl.constexpr, SOFTCAP: tl.constexpr, WINDOW: tl.constexpr,
    PRODUCTS: tl.constexpr,
):  # fmt: skip
    """Some tokens of a sequence with more than one, and one head of keys; the last tiles, which
    see the most, come first."""
    TOKENS: tl.constexpr = ROWS // GROUP_ROWS
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    sequence = 0
    above = sequences
    while above - sequence > 1:
        middle = (sequence + above) // 2
        begins = tl.load(query_start + middle) // TOKENS + middle
        sequence = tl.where(begins <= tile, middle, sequence)
        above = tl.where(begins <= tile, above, middle)
    begin = tl.load(query_start + sequence)
    count = tl.load(query_start + sequence + 1) - begin
    skipped = (tile - begin // TOKENS - sequence) * TOKENS
    if (count == 1) | (skipped >= count):
        return
    length = tl.load(seq_lens + sequence)
    row, dim = tl.arange(0, ROWS), tl.arange(0, DIMS)
    token, member = skipped + row // GROUP_ROWS, row % GROUP_ROWS
    there = ((token < count) & (member < GROUP))[:, None] & (dim < HEAD_DIM)[None, :]
    place, query = (begin + token).to(tl.int64), head * GROUP + member
    at = (place * query_token + query * query_head)[:, None] + dim[None, :]
    first_position = length - count + skipped
    first = 0
    if WINDOW > 0:
        first = tl.maximum(first_position - WINDOW + 1, 0) // TILE * TILE
    seen, total, _top = _walk(
        tl.load(queries + at, mask=there, other=0.0).to(PRODUCTS), length - count + token,
        first, tl.minimum(first_position + TOKENS, length),
        tables + sequence.to(tl.int64) * table_row, key_cache, value_cache, head,
        ROWS, TILE, BLOCK_SIZE, KV_HEADS, HEAD_DIM, DIMS, SCALE, SOFTCAP, WINDOW,
        PRODUCTS,
    )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)  # rows that are padding
    to = ((place * (KV_HEADS * GROUP) + query) * HEAD_DIM)[:, None] + dim[None, :]
    tl.store(out + to, seen / total[:, None], mask=there)


@triton.jit
def _split_size(first, length, TILE: tl.constexpr, SPLITS: tl.constexpr):
    """How many tokens a part has, whole tiles; the last parts may have none."""
    return tl.cdiv(tl.cdiv(length - first, SPLITS), TILE) * TILE


@triton.jit(do_not_specialize=["table_row", "sum_row"])
def decode_kernel(
    out, parts, sums, queries, key_cache, value_cache, tables, query_start, seq_lens, table_row,
    query_token, query_head, sum_row, ROWS: tl.constexpr, TILE: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, DIMS: tl.constexpr, SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr, WINDOW: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """The one new token of a sequence, one head of keys, and a part of the tokens it sees."""
    sequence, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin = tl.load(query_start + sequence)
    if tl.load(query_start + sequence + 1) - begin != 1:
        return
    length = tl.load(seq_lens + sequence)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(length - WINDOW, 0)
    size = _split_size(first, length, TILE, SPLITS)
    first += split * size
    if first >= length:
        return
    row, dim = tl.arange(0, ROWS), tl.arange(0, DIMS)
    there = (row < GROUP)[:, None] & (dim < HEAD_DIM)[None, :]
    place, query = begin.to(tl.int64), head * GROUP + row
    position = tl.full([ROWS], 0, tl.int32) + length - 1
    at = place * query_token + (query * query_head)[:, None] + dim[None, :]
    seen, total, top = _walk(
        tl.load(queries + at, mask=there, other=0.0).to(PRODUCTS), position,
        first, tl.minimum(first + size, length),
        tables + sequence.to(tl.int64) * table_row, key_cache, value_cache, head,
        ROWS, TILE, BLOCK_SIZE, KV_HEADS, HEAD_DIM, DIMS, SCALE, SOFTCAP, WINDOW,
        PRODUCTS,
    )  # fmt: skip
    HEADS: tl.constexpr = KV_HEADS * GROUP
    if SPLITS == 1:
        to = ((place * HEADS + query) * HEAD_DIM)[:, None] + dim[None, :]
        tl.store(out + to, seen / total[:, None], mask=there)
    else:
        part = (sequence.to(tl.int64) * HEADS + query) * SPLITS + split
        tl.store(parts + (part * HEAD_DIM)[:, None] + dim[None, :], seen, mask=there)
        tl.store(sums + part, total, mask=row < GROUP)
        tl.store(sums + sum_row + part, top, mask=row < GROUP)


@triton.jit(do_not_specialize=["sum_row"])
def join_kernel(
    out, parts, sums, query_start, seq_lens, sum_row, TILE: tl.constexpr, SPLITS: tl.constexpr,
    HEADS: tl.constexpr, DIMS: tl.constexpr, HEAD_DIM: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """The parts of one token and head, each by the weight of its top score."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    begin = tl.load(query_start + sequence)
    if tl.load(query_start + sequence + 1) - begin != 1:
        return
    length = tl.load(seq_lens + sequence)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(length - WINDOW, 0)
    split, dim = tl.arange(0, SPLITS), tl.arange(0, DIMS)
    there = first + split * _split_size(first, length, TILE, SPLITS) < length
    part = (sequence.to(tl.int64) * HEADS + head) * SPLITS + split
    top = tl.load(sums + sum_row + part, mask=there, other=float("-inf"))
    weight = tl.exp2(top - tl.max(top, 0))
    total = tl.sum(weight * tl.load(sums + part, mask=there, other=0.0), 0)
    seen = tl.load(
        parts + (part * HEAD_DIM)[:, None] + dim[None, :],
        mask=there[:, None] & (dim < HEAD_DIM)[None, :],
        other=0.0,
    )
    to = out + (begin.to(tl.int64) * HEADS + head) * HEAD_DIM + dim
    tl.store(to, tl.sum(weight[:, None] * seen, 0) / total, mask=dim < HEAD_DIM)
