"""Attention over a paged cache in torch: what a backend does, and the reference that is one.

The reference gathers each sequence's keys and values and writes the mathematics out: for any
device, any mix of prefill and decode, slow and plain. Faster backends are compared with it.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from inferd.engine.models.spec import Attention
from inferd.engine.worker.base import InputBatch


@dataclass(slots=True)
class AttentionMetadata:
    """Where a step's tokens are: `batch` on the host, and its arrays on the device, as int32."""

    batch: InputBatch
    positions: Tensor
    slot_mapping: Tensor
    query_start: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    fewest_queries: int
    """Tokens that the sequence with the fewest has in this step."""
    most_queries: int


class AttentionBackend(Protocol):
    """Writes a layer's keys and values into its cache, and attends to what is in there.

    A layer's cache is [2, blocks, block_size, kv_heads, head_dim]: keys, then values. Neither
    method waits for the device.
    """

    name: str

    def write(self, cache: Tensor, keys: Tensor, values: Tensor, meta: AttentionMetadata) -> None:
        """Put the keys and values [T, kv_heads, head_dim] of the step's tokens into their slots."""

    def attend(
        self, queries: Tensor, cache: Tensor, attention: Attention, meta: AttentionMetadata
    ) -> Tensor:
        """What the queries [T, heads, head_dim] see, of the same shape; the step's own keys and
        values are in the cache already."""


def best_attention(device: torch.device) -> AttentionBackend:
    """The fastest backend that a device has here."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from inferd.engine.worker.triton_attention import TritonAttention

        return TritonAttention(device)
    return ReferenceAttention()


class ReferenceAttention:
    """Sequence by sequence, in float32."""

    name = "reference"

    def write(self, cache: Tensor, keys: Tensor, values: Tensor, meta: AttentionMetadata) -> None:
        """See AttentionBackend."""
        for part, new in zip(cache, (keys, values), strict=True):
            part.flatten(0, 1)[meta.slot_mapping] = new.to(cache.dtype)

    def attend(
        self, queries: Tensor, cache: Tensor, attention: Attention, meta: AttentionMetadata
    ) -> Tensor:
        """See AttentionBackend."""
        out = torch.empty_like(queries)
        starts, lengths = meta.batch.query_start.tolist(), meta.batch.seq_lens.tolist()
        for row, length in enumerate(lengths):
            tokens = slice(starts[row], starts[row + 1])
            blocks = meta.block_tables[row, : -(-length // cache.shape[2])]
            keys, values = (part[blocks].flatten(0, 1)[:length].float() for part in cache)
            seen = visible(meta.positions[tokens], length, attention.window)
            out[tokens] = attend(queries[tokens].float(), keys, values, seen, attention)
        return out


def visible(positions: Tensor, length: int, window: int) -> Tensor:
    """Which of a sequence's `length` tokens those at `positions` [n] see: bool [n, length]."""
    others = torch.arange(length, device=positions.device)
    distance = positions[:, None] - others
    seen = distance >= 0
    return seen & (distance < window) if window else seen


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor, attention: Attention
) -> Tensor:
    """Attention of one sequence: queries [n, heads, dim] over keys and values [m, kv_heads, dim],
    where `seen` [n, m]."""
    grouped = queries.reshape(len(queries), attention.num_kv_heads, -1, attention.head_dim)
    scores = torch.einsum("nkgd,mkd->kgnm", grouped, keys) * attention.scale
    if attention.softcap:
        scores = attention.softcap * torch.tanh(scores / attention.softcap)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("kgnm,mkd->nkgd", weights, values).flatten(1, 2)
