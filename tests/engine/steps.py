"""Drives any ModelRunner the way the engine does, without a scheduler: for tests of runners."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inferd.engine.worker.base import InputBatch, ModelRunner

Logits = NDArray[np.float32]


@dataclass(slots=True)
class _Sequence:
    length: int = 0
    blocks: list[int] = field(default_factory=list)


class Steps:
    """Sequences by their number, each with blocks that are given out in a shuffled order."""

    def __init__(self, runner: ModelRunner, seed: int = 0) -> None:
        self._runner = runner
        self._free = list(range(runner.num_blocks))
        self._sequences: dict[int, _Sequence] = {}
        random.Random(seed).shuffle(self._free)

    def run(self, tokens: Mapping[int, Sequence[int]], every: bool = False) -> dict[int, Logits]:
        """Append tokens to sequences, in that order, in one step; the logits of the last token of
        each, [1, vocab], or of every token."""
        batch = self.batch(tokens)
        ends = batch.query_start[1:]
        if not every:
            batch.logit_rows = ends - 1
        out = self._runner.run(batch).copy()
        parts = np.split(out, ends[:-1] if every else len(tokens))
        return dict(zip(tokens, parts, strict=True))

    def batch(self, tokens: Mapping[int, Sequence[int]]) -> InputBatch:
        """The batch that appends those tokens; all logits are wanted."""
        size = self._runner.block_size
        positions: list[int] = []
        slots: list[int] = []
        for number, new in tokens.items():
            sequence = self._sequences.setdefault(number, _Sequence())
            end = sequence.length + len(new)
            while len(sequence.blocks) * size < end:
                sequence.blocks.append(self._free.pop())
            at = range(sequence.length, end)
            positions += at
            slots += [sequence.blocks[p // size] * size + p % size for p in at]
            sequence.length = end
        running = [self._sequences[number] for number in tokens]
        tables = np.zeros((len(running), max(len(s.blocks) for s in running)), np.int32)
        for table, sequence in zip(tables, running, strict=True):
            table[: len(sequence.blocks)] = sequence.blocks
        return InputBatch(
            token_ids=_int32(token for new in tokens.values() for token in new),
            positions=_int32(positions),
            slot_mapping=_int32(slots),
            query_start=np.cumsum([0, *(len(new) for new in tokens.values())], dtype=np.int32),
            seq_lens=_int32(sequence.length for sequence in running),
            block_tables=tables,
            logit_rows=np.arange(len(positions), dtype=np.int32),
        )

    def greedy(
        self, prompts: Sequence[Sequence[int]], count: int, chunks: Sequence[int]
    ) -> list[list[int]]:
        """The next `count` tokens of each prompt, all of them in every step: a prompt goes in by
        chunks of its own size, so that some decode beside others that do not yet."""
        known = [list(prompt) for prompt in prompts]
        done = [0] * len(prompts)
        goal = [len(prompt) + count for prompt in prompts]
        while any(len(k) < g for k, g in zip(known, goal, strict=True)):
            step = {
                n: known[n][done[n] : done[n] + chunks[n]]
                for n in range(len(known))
                if len(known[n]) < goal[n]
            }
            for n, logits in self.run(step).items():
                done[n] += len(step[n])
                if done[n] == len(known[n]):
                    known[n].append(int(logits[-1].argmax()))
        return [k[len(p) :] for k, p in zip(known, prompts, strict=True)]


def _int32(values: Iterable[int]) -> NDArray[np.int32]:
    return np.array(list(values), np.int32)
