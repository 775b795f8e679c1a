import math

import pytest
import torch

from engine.worker.batches import batch
from inferd.engine.models.spec import Attention
from inferd.engine.worker.attention import ReferenceAttention, best_attention, visible
from inferd.engine.worker.step_inputs import Staging

BLOCK = 4


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
    staging = Staging(cache.device)
    backend.write(cache, keys, values, staging.inputs(batch(lengths, lengths, tables, BLOCK)).meta)

    counts = [5, 3, 1]
    queries = torch.randn(9, 4, 6, generator=noise)
    meta = staging.inputs(batch(counts, lengths, tables, BLOCK)).meta
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
    meta = Staging(cache.device).inputs(batch([2], [5], [[2, 1]], BLOCK)).meta
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


def test_without_a_gpu_the_reference_is_the_best() -> None:
    assert best_attention(torch.device("cpu")).name == "reference"
