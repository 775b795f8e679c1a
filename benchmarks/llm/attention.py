"""`python -m benchmarks.llm.attention`: how fast decoding reads the cache, beside plain reading.

32 sequences of 1,024 tokens each decode one more; of a step's program, only attention is run.
"""

import time

import numpy as np
from rich.console import Console

from benchmarks.llm.__main__ import read_bandwidth
from benchmarks.llm.model import HEAD_DIM, KV_HEADS, LAYERS, ensure_model
from benchmarks.venvs import cache_folder
from inferd.config.engine import EngineConfig
from inferd.engine.loading import load_core
from inferd.engine.worker.base import InputBatch
from inferd.engine.worker.cpu_runner import CPURunner

SEQUENCES, LENGTH, ROUNDS = 32, 1024, 12
WIDTH = {"float32": 4, "bfloat16": 2, "int8": 1}


def main() -> None:
    """Each form of cache, in turns with the plain read."""
    console = Console()
    model = ensure_model(cache_folder() / "llm" / "llama-1b")
    for kv, width in WIDTH.items():
        config = EngineConfig(
            quantization="int8", max_model_len=2 * LENGTH, max_num_seqs=SEQUENCES,
            kv_cache_dtype=kv, enable_prefix_caching=False,
        )  # fmt: skip
        core, _, _ = load_core(model, config)
        assert isinstance(core.runner, CPURunner)
        size = 2 * SEQUENCES * LENGTH * KV_HEADS * (HEAD_DIM * width + 4 * (kv == "int8")) * LAYERS
        before = read_bandwidth()
        speeds = [size / seconds / 1e9 for seconds in attention_seconds(core.runner)]
        plain = max(before, read_bandwidth())
        console.print(
            f"{kv} cache: median {np.median(speeds):.1f} GB/s, best {max(speeds):.1f}; plain read "
            f"{plain:.1f} GB/s: {np.median(speeds) / plain:.0%}",
            highlight=False,
        )
        core.runner.close()
        del core


def attention_seconds(runner: CPURunner) -> list[float]:
    """Of the attention of all layers, some times over."""
    width = -(-LENGTH // runner.block_size)
    tables = np.arange(SEQUENCES * width, dtype=np.int32).reshape(SEQUENCES, width)
    last = np.full(SEQUENCES, LENGTH - 1, np.int32)
    for sequence in range(SEQUENCES):  # what is read must have been written
        for first in range(0, LENGTH, 256):
            positions = np.arange(first, first + 256, dtype=np.int32)
            runner.run(batch(tables[sequence : sequence + 1], positions, runner.block_size))
    runner.run(batch(tables, last, runner.block_size))
    program = runner.program[[name == "attend" for name in runner.operations]]
    runner.team.run(program, len(program))
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        runner.team.run(program, len(program))
        found.append(time.perf_counter() - start)
    return found


def batch(tables: np.ndarray, positions: np.ndarray, block_size: int) -> InputBatch:
    """A chunk of one sequence, or the next token of several."""
    several = len(tables) > 1
    rows = np.arange(len(positions)) if several else np.zeros(len(positions), np.int64)
    slots = tables[rows, positions // block_size] * block_size + positions % block_size
    starts = np.arange(len(tables) + 1) * (1 if several else len(positions))
    return InputBatch(
        token_ids=positions % 1000,
        positions=positions,
        slot_mapping=slots.astype(np.int32),
        query_start=starts.astype(np.int32),
        seq_lens=positions + 1 if several else positions[-1:] + 1,
        block_tables=tables,
        logit_rows=np.arange(len(positions) if several else 0, dtype=np.int32),
    )


if __name__ == "__main__":
    main()
