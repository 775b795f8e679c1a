"""Steps that only decode, captured once and replayed: a launch each instead of hundreds.

A graph reads its inputs where they were at its capture, so they are copied there, padded to the
graph's number of rows. Padding rows are sequences of one token in a block that nobody else has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inferd.engine.worker.attention import AttentionMetadata
from inferd.engine.worker.base import InputBatch, Int32
from inferd.engine.worker.step_inputs import Staging, StepInputs

Step = Callable[[], Tensor]
Capture = Callable[[Step], Step]
"""Makes of a step one that does the same on what then is where its inputs were."""

_WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """What steps are captured: those of at most so many sequences of at most so many tokens."""

    max_num_seqs: int
    max_model_len: int


def graph_sizes(max_num_seqs: int) -> list[int]:
    """Rows of the graphs: powers of two, and the most there can be."""
    powers = [1 << n for n in range(max_num_seqs.bit_length()) if 1 << n < max_num_seqs]
    return [*powers, max_num_seqs]


class DecodeGraphs:
    """The graphs of one `forward`, which gives the logits [rows, vocab] of every row; each is
    captured when it is first needed."""

    def __init__(
        self, forward: Callable[[StepInputs], Tensor], limits: GraphLimits, *, block_size: int,
        scratch_block: int, staging: Staging, device: torch.device, capture: Capture | None = None,
    ) -> None:  # fmt: skip
        self._forward = forward
        self._sizes = graph_sizes(limits.max_num_seqs)
        self._scratch_block = scratch_block
        self._scratch_slot = scratch_block * block_size
        self._staging = staging
        self._capture = capture or CudaCapture()
        self._graphs: dict[int, tuple[StepInputs, Step]] = {}
        most, width = self._sizes[-1], -(-limits.max_model_len // block_size)
        self._rows = torch.zeros((4, most), dtype=torch.int32, device=device)
        self._tables = torch.zeros((most, width), dtype=torch.int32, device=device)
        self._starts = torch.arange(most + 1, dtype=torch.int32, device=device)

    def takes(self, batch: InputBatch) -> bool:
        """Whether the batch is one new token for each of few enough sequences."""
        rows, width = batch.block_tables.shape
        most, widest = self._tables.shape
        return 0 < rows <= most and bool(width <= widest) and len(batch.token_ids) == rows

    def run(self, batch: InputBatch) -> Tensor:
        """Logits [sequences, vocab] of a batch that it takes, valid until the next step."""
        rows = len(batch.token_ids)
        return self._step(batch, next(size for size in self._sizes if size >= rows))[:rows]

    def capture_all(self) -> None:
        """Capture every graph now, the largest first, so that the others fit into its memory."""
        none = np.zeros(0, np.int32)
        empty = InputBatch(none, none, none, none, none, np.zeros((0, 1), np.int32), none)
        for size in reversed(self._sizes):
            if size not in self._graphs:
                self._step(empty, size)

    def close(self) -> None:
        """Let go of the graphs and what they hold."""
        self._graphs.clear()

    def _step(self, batch: InputBatch, size: int) -> Tensor:
        padded = self._padded(batch, size)
        *sent, tables = self._staging.send(
            (padded.token_ids, padded.positions, padded.slot_mapping, padded.seq_lens,
             padded.block_tables)
        )  # fmt: skip
        for to, new in zip(self._rows, sent, strict=True):
            to[:size].copy_(new)
        self._tables[:size, : tables.shape[1]].copy_(tables)
        if size not in self._graphs:
            inputs = self._inputs(padded, size)
            self._graphs[size] = inputs, self._capture(lambda: self._forward(inputs))
        inputs, step = self._graphs[size]
        inputs.meta.batch = padded
        return step()

    def _padded(self, batch: InputBatch, size: int) -> InputBatch:
        table = np.full((size, batch.block_tables.shape[1]), self._scratch_block, np.int32)
        table[: len(batch.block_tables)] = batch.block_tables
        return InputBatch(
            token_ids=_filled(batch.token_ids, size, 0),
            positions=_filled(batch.positions, size, 0),
            slot_mapping=_filled(batch.slot_mapping, size, self._scratch_slot),
            query_start=np.arange(size + 1, dtype=np.int32),
            seq_lens=_filled(batch.seq_lens, size, 1),
            block_tables=table,
            logit_rows=np.arange(size, dtype=np.int32),
        )

    def _inputs(self, padded: InputBatch, size: int) -> StepInputs:
        token_ids, positions, slots, lengths = self._rows[:, :size]
        meta = AttentionMetadata(
            padded, positions, slots, self._starts[: size + 1], lengths, self._tables[:size], 1, 1
        )
        return StepInputs(token_ids, self._starts[:size], meta)


def _filled(values: Int32, size: int, rest: int) -> Int32:
    out = np.full(size, rest, np.int32)
    out[: len(values)] = values
    return out


class CudaCapture:
    """Captures CUDA graphs that share their memory: one at a time is replayed."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, step: Step) -> Step:
        """See Capture. The step runs a few times before, so that everything is compiled."""
        beside = self._beside
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = step()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay
