"""Batches for tests of attention: where tokens lie is said, what they are is not."""

from collections.abc import Sequence

import numpy as np

from inferd.engine.worker.base import InputBatch


def batch(
    query_lens: Sequence[int], seq_lens: Sequence[int], tables: Sequence[Sequence[int]], size: int
) -> InputBatch:
    """The last tokens of sequences that lie in those blocks of `size`."""
    places = [
        (table[position // size] * size + position % size, position)
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
        block_tables=np.array([[*t, *[0] * (widest - len(t))] for t in tables], np.int32),
        logit_rows=np.zeros(0, np.int32),
    )
