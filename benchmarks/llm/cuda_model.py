"""Models and batches for the checks on CUDA: random weights made on the device, no tokenizer."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.llm.model import config, shapes
from inferd.engine.models.registry import describe
from inferd.engine.models.shapes import weight_shapes
from inferd.engine.models.spec import DecoderSpec
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.base import InputBatch, ModelRunner
from inferd.engine.worker.torch_weights import TorchWeights, load_weights, torch_dtype

SMALL: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 4096,
}  # fmt: skip
BLOCK_SIZE = 16


def random_model(
    small: bool, dtype: str, device: str, seed: int = 11
) -> tuple[DecoderSpec, TorchWeights]:
    """The benchmarks' Llama, or a small one, with weights drawn on the device."""
    told = config() | (SMALL if small else {})
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(told), encoding="utf-8")
        spec, _ = describe(Path(folder), frozenset(shapes()))
    noise = torch.Generator(device).manual_seed(seed)

    def draw() -> Iterator[tuple[str, torch.Tensor]]:
        for name, shape in weight_shapes(spec).items():
            weight = torch.randn(shape, generator=noise, device=device) * 0.02
            yield name, (weight + 1 if len(shape) == 1 else weight).to(torch_dtype(dtype))

    return spec, TorchWeights.of(draw(), len(spec.layers))


def folder_model(folder: Path, dtype: str, device: str) -> tuple[DecoderSpec, TorchWeights]:
    """A model that is on disk."""
    checkpoint = Checkpoint(folder)
    spec, sources = describe(folder, checkpoint.names())
    return spec, load_weights(spec, sources, checkpoint, dtype=dtype, device=device)


class Sequences:
    """Sequences of a length each, with shuffled blocks for as long as they can become."""

    def __init__(self, count: int, most_tokens: int, seed: int = 0) -> None:
        width = -(-most_tokens // BLOCK_SIZE)
        order = np.random.default_rng(seed).permutation(count * width).astype(np.int32)
        self.tables = order.reshape(count, width)
        self.lengths = [0] * count

    @property
    def num_blocks(self) -> int:
        """Blocks that they need."""
        return int(self.tables.size)

    def batch(self, tokens: Sequence[Sequence[int]], every: bool = False) -> InputBatch:
        """Append tokens to every sequence, to some of them none; logits of the last or of all."""
        rows = [row for row, new in enumerate(tokens) if new]
        positions = [
            np.arange(self.lengths[row], self.lengths[row] + len(tokens[row])) for row in rows
        ]
        slots = [
            self.tables[row][at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE
            for row, at in zip(rows, positions, strict=True)
        ]
        for row in rows:
            self.lengths[row] += len(tokens[row])
        lengths = np.array([self.lengths[row] for row in rows], np.int32)
        starts = np.cumsum([0, *(len(tokens[row]) for row in rows)], dtype=np.int32)
        width = -(-int(lengths.max()) // BLOCK_SIZE)
        return InputBatch(
            token_ids=np.concatenate([np.array(tokens[row], np.int32) for row in rows]),
            positions=np.concatenate(positions).astype(np.int32),
            slot_mapping=np.concatenate(slots).astype(np.int32),
            query_start=starts, seq_lens=lengths,
            block_tables=np.ascontiguousarray(self.tables[rows, :width]),
            logit_rows=np.arange(starts[-1], dtype=np.int32) if every else starts[1:] - 1,
        )  # fmt: skip


def prompts(count: int, length: int, vocab: int, seed: int = 3) -> list[list[int]]:
    """Random tokens."""
    drawn: list[list[int]] = (
        np.random.default_rng(seed).integers(0, vocab, (count, length)).tolist()
    )
    return [[int(token) for token in row] for row in drawn]


def generate(
    runner: ModelRunner, given: Sequence[Sequence[int]], count: int, chunk: int
) -> tuple[list[list[int]], NDArray[np.float32]]:
    """Greedy tokens after prompts that go in by chunks, and the logits of every decode step."""
    sequences = Sequences(len(given), max(map(len, given)) + count)
    longest = max(map(len, given))
    last: dict[int, int] = {}
    for start in range(0, longest, chunk):
        step = [list(prompt[start : start + chunk]) for prompt in given]
        out = runner.run(sequences.batch(step))
        for row, logits in zip((r for r, new in enumerate(step) if new), out, strict=True):
            last[row] = int(logits.argmax())
    found = [[last[row]] for row in range(len(given))]
    kept = []
    for _ in range(count - 1):
        out = runner.run(sequences.batch([[tokens[-1]] for tokens in found]))
        kept.append(out.copy())
        for tokens, logits in zip(found, out, strict=True):
            tokens.append(int(logits.argmax()))
    return found, np.stack(kept)


def forced(
    runner: ModelRunner, given: Sequence[Sequence[int]], prompt: int, chunk: int
) -> NDArray[np.float32]:
    """Logits of every token: the first `prompt` of each by chunks, the rest one by one."""
    length = len(given[0])
    sequences = Sequences(len(given), length)
    ends = [*range(chunk, prompt, chunk), *range(prompt, length + 1)]
    kept, start = [], 0
    for end in ends:
        out = runner.run(sequences.batch([new[start:end] for new in given], every=True))
        kept.append(out.reshape(len(given), end - start, -1).copy())
        start = end
    return np.concatenate(kept, axis=1)
