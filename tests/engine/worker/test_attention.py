import math

import numpy as np
import pytest
import torch

from inferd.engine.models.spec import Attention
from inferd.engine.worker.attention import AttentionMetadata, ReferenceAttention, visible
from inferd.engine.worker.base import InputBatch

BLOCK = 4


def batch(query_lens: list[int], seq_lens: list[int], tables: list[list[int]]) -> InputBatch:
    """The last tokens of sequences that lie in those blocks."""
    places = [
        (table[position // BLOCK] * BLOCK + position % BLOCK, position)
        for count, length, table in zip(query_lens, seq_lens, tables, strict=True)
        for position in range(length - count, length)
    ]
    widest = max(len(table) for table in tables)
    slots, positions = np.array(places, np.int32).T
    return InputBatch(
        token_ids=np.zeros(len(places), np.int32),
        positions=positions.copy(),
        slot_mapping=slots.copy(),
        query_start=np.cumsum([0, *query_lens], dtype=np.int32),
        seq_lens=np.array(seq_lens, np.int32),
        block_tables=np.array([t + [0] * (widest - len(t)) for t in tables], np.int32),
        logit_rows=np.zeros(0, np.int32),
    )


def written_out(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, attention: Attention
) -> list[float]:
    """One head of the last token, number by number."""
    first = max(0, len(keys) - attention.window) if attention.window else 0
    scores = [attention.scale * float(query @ key) for key in keys[first:]]
    if attention.softcap:
        scores = [attention.softcap * math.tanh(s / attention.softcap) for s in scores]
    weights = [math.exp(score) for score in scores]
    total = sum(weight * value for weight, value in zip(weights, values[first:], strict=True))
    return [float(v) / sum(weights) for v in total]  # type: ignore[union-attr]


@pytest.mark.parametrize("window", [0, 1, 3, 100])
@pytest.mark.parametrize("softcap", [0.0, 0.5])
def test_a_mixed_batch_is_what_the_formula_says(window: int, softcap: float) -> None:
    """A whole prompt, the end of one, and a decode, over blocks in no order."""
    attention = Attention(4, 2, 6, 0.4, None, window=window, softcap=softcap)
    noise = torch.Generator().manual_seed(1)
    lengths, tables = [5, 9, 4], [[7, 2], [0, 5, 3], [6]]
    keys, values = torch.randn(2, 18, 2, 6, generator=noise)
    cache, backend = torch.full((2, 8, BLOCK, 2, 6), torch.nan), ReferenceAttention()
    all_of_it = AttentionMetadata.of(batch(lengths, lengths, tables), cache.device)
    backend.write(cache, keys, values, all_of_it)

    counts = [5, 3, 1]
    queries = torch.randn(9, 4, 6, generator=noise)
    meta = AttentionMetadata.of(batch(counts, lengths, tables), cache.device)
    out = backend.attend(queries, cache, attention, meta)
    row, start = 0, 0
    for count, length in zip(counts, lengths, strict=True):
        for end in range(length - count + 1, length + 1):
            for head in range(4):
                seen = slice(start, start + end)
                group = keys[seen, head // 2], values[seen, head // 2]
                expected = written_out(queries[row, head], *group, attention)
                torch.testing.assert_close(out[row, head], torch.tensor(expected))
            row += 1
        start += length


def test_what_is_written_is_where_the_slots_say() -> None:
    cache = torch.zeros(2, 3, BLOCK, 1, 2)
    meta = AttentionMetadata.of(batch([2], [5], [[2, 1]]), cache.device)
    backend = ReferenceAttention()
    keys = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    backend.write(cache, keys, -keys, meta)
    assert cache[0, 2, 3, 0].tolist() == [1.0, 2.0]
    assert cache[0, 1, 0, 0].tolist() == [3.0, 4.0]
    assert torch.equal(cache[1], -cache[0])
    assert cache.count_nonzero() == 8


def test_a_window_is_the_token_and_those_before_it() -> None:
    seen = visible(torch.tensor([2, 3]), 4, 2)
    assert seen.tolist() == [[False, True, True, False], [False, False, True, True]]
    assert visible(torch.tensor([1]), 3, 0).tolist() == [[True, True, False]]
