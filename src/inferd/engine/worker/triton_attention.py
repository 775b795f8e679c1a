"""Attention over a paged cache as Triton kernels: what runs on CUDA.

Prompts are cut into tiles, a program each: some tokens of one sequence times the query heads that
share a head of keys. Sequences with one new token are cut along the tokens that they see, so that
few of them fill the device, and a second kernel joins the parts. Both walk a block table with the
same online softmax, in powers of two. Nothing here depends on a block's size.

Compared with ReferenceAttention, which has the layouts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inferd.engine.models.spec import Attention
from inferd.engine.worker.attention import AttentionMetadata
from inferd.engine.worker.triton_kernels import (
    TYPES,
    decode_kernel,
    join_kernel,
    prefill_kernel,
    write_kernel,
)

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
        write_kernel[(tokens,)](
            keys, values, cache[0], cache[1], meta.slot_mapping,
            keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
            NUMBERS=heads * head_dim, HEAD_DIM=head_dim, BLOCK=_power(heads * head_dim),
            enable_fp_fusion=True,
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
        prefill_kernel[grid](
            out, queries, cache[0], cache[1], meta.block_tables, meta.query_start, meta.seq_lens,
            sequences, meta.block_tables.stride(0), queries.stride(0), queries.stride(1),
            ROWS=tile.rows, TILE=tile.tokens, num_warps=tile.warps, num_stages=tile.stages,
            enable_fp_fusion=True, **_constants(cache, attention, queries),
        )  # fmt: skip

    def _decode(
        self, out: Tensor, queries: Tensor, cache: Tensor, attention: Attention,
        meta: AttentionMetadata,
    ) -> None:  # fmt: skip
        sequences, heads = len(meta.seq_lens), attention.num_kv_heads
        splits = min(MOST_SPLITS, _power(-(-self._programs // (sequences * heads))))
        tile = _decode_tile(attention, queries)
        constants = _constants(cache, attention, queries)
        parts, sums = out, out
        if splits > 1:
            shape = (sequences, attention.num_heads, splits)
            parts = out.new_empty((*shape, attention.head_dim), dtype=torch.float32)
            sums = out.new_empty((2, *shape), dtype=torch.float32)
        decode_kernel[(sequences, heads, splits)](
            out, parts, sums, queries, cache[0], cache[1], meta.block_tables, meta.query_start,
            meta.seq_lens, meta.block_tables.stride(0), queries.stride(0), queries.stride(1),
            sums.stride(0), ROWS=tile.rows, TILE=tile.tokens, SPLITS=splits,
            num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
            **constants,
        )  # fmt: skip
        if splits > 1:
            join_kernel[(sequences, attention.num_heads)](
                out, parts, sums, meta.query_start, meta.seq_lens, sums.stride(0),
                TILE=tile.tokens, SPLITS=splits, HEADS=attention.num_heads, DIMS=constants["DIMS"],
                HEAD_DIM=attention.head_dim, WINDOW=attention.window, enable_fp_fusion=True,
            )  # fmt: skip


def _power(number: int) -> int:
    """The power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()


def _constants(cache: Tensor, attention: Attention, queries: Tensor) -> dict[str, Any]:
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
        # The interpreter multiplies bfloat16 numbers as if their bits were integers.
        "PRODUCTS": TYPES[queries.dtype if queries.is_cuda else torch.float32],
    }


def _prefill_tile(attention: Attention, queries: Tensor) -> _Tile:
    """As large as registers and 100 KB of shared memory allow."""
    group = _power(attention.num_heads // attention.num_kv_heads)
    if not queries.is_cuda:
        return _Tile(max(16, group), 16, 4, 1)
    if queries.dtype == torch.float32:
        return _Tile(max(16, group), 16, 4, 1)
    dims = _power(attention.head_dim)
    if dims <= 64:
        return _Tile(max(128, group), 64, 4, 3)
    if dims <= 128:
        return _Tile(max(128, group), 64, 8, 2)
    return _Tile(max(64, group), 32, 4, 2)


def _decode_tile(attention: Attention, queries: Tensor) -> _Tile:
    rows = max(16, _power(attention.num_heads // attention.num_kv_heads))
    if not queries.is_cuda:
        return _Tile(rows, 16, 4, 1)
    if queries.dtype == torch.float32:
        return _Tile(rows, 16, 4, 1)
    return _Tile(rows, 64 if attention.head_dim <= 128 else 32, 4, 3)
