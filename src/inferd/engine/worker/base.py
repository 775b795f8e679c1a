"""What runs a model for the engine: one step's tokens in, logits out.

A runner owns weights and the memory of the KV cache and knows nothing of requests. Its only state
between steps is that cache, which it reads and writes where block tables and slots tell it to.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]


@dataclass(slots=True)
class InputBatch:
    """The tokens of one step, flat: those of sequence 0, then of sequence 1, and so on.

    With T tokens, S sequences: `token_ids`, `positions`, `slot_mapping` [T] (slot = block *
    block_size + offset, where a token's key and value go); `query_start` [S + 1] (sequence s owns
    tokens query_start[s] to query_start[s + 1]); `seq_lens` [S] (tokens in the cache after this
    step); `block_tables` [S, most blocks], padded with 0; `logit_rows` [R]: which tokens' logits
    are wanted, in any order.
    """

    token_ids: Int32
    positions: Int32
    slot_mapping: Int32
    query_start: Int32
    seq_lens: Int32
    block_tables: Int32
    logit_rows: Int32


class ModelRunner(Protocol):
    """Runs steps one after the other, always from the same thread."""

    block_size: int
    num_blocks: int

    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        """Run a step; logits [R, vocab] in the order of `logit_rows`. The array is valid, and may
        be written to, until the next step."""

    def close(self) -> None:
        """Give weights and cache back."""

    def describe(self) -> dict[str, Any]:
        """What was chosen and why (dtype, kernels, threads, bytes), for log and metrics."""
