"""From what the scheduler decided to the arrays that a runner takes."""

from collections.abc import Sequence

import numpy as np

from inferd.engine.sched.output import ScheduledSequence
from inferd.engine.worker.base import InputBatch


def input_batch(entries: Sequence[ScheduledSequence], block_size: int) -> InputBatch:
    """The step's tokens. Logits are wanted of the last token of an entry that samples, and of all
    tokens of one whose prompt is scored."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    query_start = [0]
    seq_lens: list[int] = []
    logit_rows: list[int] = []
    width = max(len(entry.sequence.block_table) for entry in entries)
    tables = np.zeros((len(entries), width), np.int32)
    for number, entry in enumerate(entries):
        sequence, start, end = entry.sequence, entry.start, entry.start + entry.num_tokens
        table = sequence.block_table
        first = len(tokens)
        tables[number, : len(table)] = table
        tokens += sequence.tokens[start:end]
        positions += range(start, end)
        slots += [
            table[place // block_size] * block_size + place % block_size
            for place in range(start, end)
        ]
        query_start.append(len(tokens))
        seq_lens.append(end)
        if sequence.skips_cache:
            logit_rows += range(first, len(tokens))
        elif entry.samples:
            logit_rows.append(len(tokens) - 1)
    return InputBatch(
        token_ids=np.array(tokens, np.int32),
        positions=np.array(positions, np.int32),
        slot_mapping=np.array(slots, np.int32),
        query_start=np.array(query_start, np.int32),
        seq_lens=np.array(seq_lens, np.int32),
        block_tables=tables,
        logit_rows=np.array(logit_rows, np.int32),
    )
