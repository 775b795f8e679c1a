"""The Triton kernels see what the reference sees: compiled on a GPU, interpreted without one."""

import random

import pytest
import torch

from engine.worker.batches import batch
from engine.worker.kernels import DEVICE, kernels, needs_interpreter, run_interpreted
from inferd.engine.models.spec import Attention
from inferd.engine.worker.attention import ReferenceAttention
from inferd.engine.worker.step_inputs import Staging

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

MIXTURES = {
    "decode": ([1, 1, 1], [1, 40, 17]),
    "one long decode": ([1], [150]),
    "prompts": ([5, 33, 1], [5, 33, 1]),
    "chunks": ([20, 7, 1, 1, 16], [52, 7, 33, 2, 17]),
}


@needs_interpreter
def test_interpreted() -> None:
    run_interpreted(__file__)


def compare(
    mixture: str, attention: Attention, dtype: torch.dtype = torch.float32, block_size: int = 16
) -> None:
    """Write and attend with both backends: the same cache, the same result."""
    from inferd.engine.worker.triton_attention import TritonAttention

    counts, lengths = MIXTURES[mixture]
    needed = [-(-length // block_size) for length in lengths]
    free = list(range(sum(needed) + 3))
    random.Random(len(free)).shuffle(free)
    tables = [[free.pop() for _ in range(count)] for count in needed]
    meta = Staging(DEVICE).inputs(batch(counts, lengths, tables, block_size)).meta
    noise = torch.Generator().manual_seed(7)
    heads, groups, dim = attention.num_heads, attention.num_kv_heads, attention.head_dim

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=noise).to(DEVICE, dtype)

    cache = normal(2, sum(needed) + 3, block_size, groups, dim)
    packed = normal(sum(counts), heads + 2 * groups, dim)
    queries, keys, values = packed.tensor_split((heads, heads + groups), 1)
    ours, theirs = cache.clone(), cache.clone()
    fast, slow = TritonAttention(DEVICE), ReferenceAttention()
    fast.write(ours, keys, values, meta)
    slow.write(theirs, keys, values, meta)
    assert torch.equal(ours, theirs)
    found = fast.attend(queries, ours, attention, meta)
    expected = slow.attend(queries, theirs, attention, meta)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@kernels
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (1, 0.0), (0, 2.0), (19, 2.0)])
def test_any_mixture_is_what_the_reference_says(mixture: str, window: int, softcap: float) -> None:
    compare(mixture, Attention(4, 2, 16, 0.3, None, window=window, softcap=softcap))


@kernels
@pytest.mark.parametrize(
    ("heads", "groups", "head_dim"),
    [(3, 1, 6), (2, 2, 64), (7, 1, 64), (3, 3, 80), (2, 1, 96), (4, 2, 128), (4, 1, 256)],
)
def test_any_shape_of_heads(heads: int, groups: int, head_dim: int) -> None:
    compare("chunks", Attention(heads, groups, head_dim, head_dim**-0.5, None))


@kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixture", ["one long decode", "chunks"])
def test_any_dtype(mixture: str, dtype: torch.dtype) -> None:
    compare(mixture, Attention(6, 2, 64, 0.125, None, softcap=30.0), dtype)


@kernels
@pytest.mark.parametrize("block_size", [1, 12, 32, 64])
def test_any_size_of_blocks(block_size: int) -> None:
    compare("chunks", Attention(2, 1, 32, 0.2, None, window=19), block_size=block_size)
