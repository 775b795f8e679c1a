"""Attention over a paged cache as Triton kernels: what runs on CUDA.

Prompts are cut into tiles, a program each: some tokens of one sequence times the query heads that
share a head of keys. Sequences with one new token are cut along the tokens that they see, so that
few of them fill the device, and a second kernel joins the parts. Both walk a block table with the
same online softmax, in powers of two. Nothing here depends on a block's size.

Compared with ReferenceAttention, which has the layouts.
"""

# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from inferd.engine.models.spec import Attention
from inferd.engine.worker.attention import AttentionMetadata

LOG2_E = tl.constexpr(math.log2(math.e))
MOST_SPLITS = 64
HOST_PROGRAMS = 8
"""How many programs are enough where there is no device to fill: under the interpreter."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows of queries and tokens of keys that a program has at once, and how it is compiled."""

    rows: int
    tokens: int
    warps: int
    stages: int


class TritonAttention:
    """Compiled for each combination of shapes at its first use."""

    name = "triton"

    def __init__(self, device: torch.device) -> None:
        self._programs = HOST_PROGRAMS
        if device.type == "cuda":
            self._programs = 2 * torch.cuda.get_device_properties(device).multi_processor_count

    def write(self, cache: Tensor, keys: Tensor, values: Tensor, meta: AttentionMetadata) -> None:
        """See AttentionBackend."""
        tokens, heads, head_dim = keys.shape
        _write_kernel[(tokens,)](
            keys, values, cache[0], cache[1], meta.slot_mapping,
            keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
            NUMBERS=heads * head_dim, HEAD_DIM=head_dim, BLOCK=_power(heads * head_dim),
        )  # fmt: skip

    def attend(
        self, queries: Tensor, cache: Tensor, attention: Attention, meta: AttentionMetadata
    ) -> Tensor:
        """See AttentionBackend."""
        out = torch.empty(queries.shape, dtype=queries.dtype, device=queries.device)
        if meta.most_queries > 1:
            self._prefill(out, queries, cache, attention, meta)
        if meta.fewest_queries == 1:
            self._decode(out, queries, cache, attention, meta)
        return out

    def _prefill(
        self, out: Tensor, queries: Tensor, cache: Tensor, attention: Attention,
        meta: AttentionMetadata,
    ) -> None:  # fmt: skip
        tile = _prefill_tile(attention, queries)
        tokens = tile.rows // _power(attention.num_heads // attention.num_kv_heads)
        sequences = len(meta.seq_lens)
        # A sequence's tiles begin at query_start // tokens + its number: at least as many as needed
        # for each, and found without a list of them.
        grid = (len(queries) // tokens + sequences, attention.num_kv_heads)
        _prefill_kernel[grid](
            out, queries, cache[0], cache[1], meta.block_tables, meta.query_start, meta.seq_lens,
            sequences, meta.block_tables.stride(0), queries.stride(0), queries.stride(1),
            ROWS=tile.rows, TILE=tile.tokens, num_warps=tile.warps, num_stages=tile.stages,
            **_constants(cache, attention),
        )  # fmt: skip

    def _decode(
        self, out: Tensor, queries: Tensor, cache: Tensor, attention: Attention,
        meta: AttentionMetadata,
    ) -> None:  # fmt: skip
        sequences, heads = len(meta.seq_lens), attention.num_kv_heads
        splits = min(MOST_SPLITS, _power(-(-self._programs // (sequences * heads))))
        tile = _decode_tile(attention, queries)
        constants = _constants(cache, attention)
        parts, sums = out, out
        if splits > 1:
            shape = (sequences, attention.num_heads, splits)
            parts = out.new_empty((*shape, attention.head_dim), dtype=torch.float32)
            sums = out.new_empty((2, *shape), dtype=torch.float32)
        _decode_kernel[(sequences, heads, splits)](
            out, parts, sums, queries, cache[0], cache[1], meta.block_tables, meta.query_start,
            meta.seq_lens, meta.block_tables.stride(0), queries.stride(0), queries.stride(1),
            sums.stride(0), ROWS=tile.rows, TILE=tile.tokens, SPLITS=splits,
            num_warps=tile.warps, num_stages=tile.stages, **constants,
        )  # fmt: skip
        if splits > 1:
            _join_kernel[(sequences, attention.num_heads)](
                out, parts, sums, meta.query_start, meta.seq_lens, sums.stride(0),
                TILE=tile.tokens, SPLITS=splits, HEADS=attention.num_heads, DIMS=constants["DIMS"],
                HEAD_DIM=attention.head_dim, WINDOW=attention.window,
            )  # fmt: skip


def _power(number: int) -> int:
    """The power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()


def _constants(cache: Tensor, attention: Attention) -> dict[str, Any]:
    """What both kernels of attention are compiled for."""
    return {
        "BLOCK_SIZE": cache.shape[2],
        "KV_HEADS": attention.num_kv_heads,
        "GROUP": attention.num_heads // attention.num_kv_heads,
        "GROUP_ROWS": _power(attention.num_heads // attention.num_kv_heads),
        "HEAD_DIM": attention.head_dim,
        "DIMS": max(16, _power(attention.head_dim)),
        "SCALE": attention.scale,
        "SOFTCAP": attention.softcap,
        "WINDOW": attention.window,
    }


def _prefill_tile(attention: Attention, queries: Tensor) -> _Tile:
    """As large as registers and 100 KB of shared memory allow."""
    group = _power(attention.num_heads // attention.num_kv_heads)
    if not queries.is_cuda:
        return _Tile(max(16, group), 16, 4, 1)
    row_bytes = _power(attention.head_dim) * queries.element_size()
    if row_bytes <= 128:
        return _Tile(max(128, group), 64, 4, 3)
    if row_bytes <= 256:
        return _Tile(max(128, group), 64, 8, 2)
    if row_bytes <= 512:
        return _Tile(max(64, group), 32, 4, 2)
    return _Tile(max(16, group), 32, 4, 1)


def _decode_tile(attention: Attention, queries: Tensor) -> _Tile:
    rows = max(16, _power(attention.num_heads // attention.num_kv_heads))
    if not queries.is_cuda:
        return _Tile(rows, 16, 4, 1)
    row_bytes = _power(attention.head_dim) * queries.element_size()
    if row_bytes <= 256:
        return _Tile(rows, 64, 4, 3)
    return _Tile(rows, 32, 4, 2 if row_bytes <= 512 else 1)


# -- kernels -----------------------------------------------------------------------------------
#
# Numbers that change from step to step are not specialised on, or each would be compiled for.


@triton.jit
def _write_kernel(
    keys, values, key_cache, value_cache, slots, key_token, key_head, value_token, value_head,
    NUMBERS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
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
    WINDOW: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
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
        score = tl.dot(query, key.to(query.dtype), input_precision="ieee") * SCALE
        if SOFTCAP > 0:  # tanh, by way of what every device has
            score = SOFTCAP * (1 - 2 / (tl.exp(score * (2 / SOFTCAP)) + 1))
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
        ).to(query.dtype)
        total = total * shrink + tl.sum(weight, 1)
        seen = seen * shrink[:, None]
        seen += tl.dot(weight.to(query.dtype), value, input_precision="ieee")
        top = new_top
    return seen, total, top


@triton.jit(do_not_specialize=["sequences", "table_row"])
def _prefill_kernel(
    out, queries, key_cache, value_cache, tables, query_start, seq_lens, sequences, table_row,
    query_token, query_head, ROWS: tl.constexpr, TILE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr,
    DIMS: tl.constexpr, SCALE: tl.constexpr, SOFTCAP: tl.constexpr, WINDOW: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
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
        tl.load(queries + at, mask=there, other=0.0), length - count + token,
        first, tl.minimum(first_position + TOKENS, length),
        tables + sequence.to(tl.int64) * table_row, key_cache, value_cache, head,
        ROWS, TILE, BLOCK_SIZE, KV_HEADS, HEAD_DIM, DIMS, SCALE, SOFTCAP, WINDOW,
    )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)  # rows that are padding
    to = ((place * (KV_HEADS * GROUP) + query) * HEAD_DIM)[:, None] + dim[None, :]
    tl.store(out + to, seen / total[:, None], mask=there)


@triton.jit
def _split_size(first, length, TILE: tl.constexpr, SPLITS: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many tokens a part has, whole tiles; the last parts may have none."""
    return tl.cdiv(tl.cdiv(length - first, SPLITS), TILE) * TILE


@triton.jit(do_not_specialize=["table_row", "sum_row"])
def _decode_kernel(
    out, parts, sums, queries, key_cache, value_cache, tables, query_start, seq_lens, table_row,
    query_token, query_head, sum_row, ROWS: tl.constexpr, TILE: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, DIMS: tl.constexpr, SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr, WINDOW: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
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
    at = place * query_token + (query * query_head)[:, None] + dim[None, :]
    seen, total, top = _walk(
        tl.load(queries + at, mask=there, other=0.0), tl.full([ROWS], 0, tl.int32) + length - 1,
        first, tl.minimum(first + size, length),
        tables + sequence.to(tl.int64) * table_row, key_cache, value_cache, head,
        ROWS, TILE, BLOCK_SIZE, KV_HEADS, HEAD_DIM, DIMS, SCALE, SOFTCAP, WINDOW,
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
def _join_kernel(
    out, parts, sums, query_start, seq_lens, sum_row, TILE: tl.constexpr, SPLITS: tl.constexpr,
    HEADS: tl.constexpr, DIMS: tl.constexpr, HEAD_DIM: tl.constexpr, WINDOW: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
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
