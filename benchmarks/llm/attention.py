"""`python -m benchmarks.llm.attention`: how fast decoding reads the cache, beside plain reading.

32 sequences of 1,024 tokens each decode one more; of a step's program, only attention is run.
"""

import time

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.llm.__main__ import read_bandwidth
from benchmarks.llm.model import HEAD_DIM, KV_HEADS, LAYERS, ensure_model
from benchmarks.venvs import cache_folder
from inferd.config.engine import EngineConfig
from inferd.engine.loading import load_core
from inferd.engine.worker.base import InputBatch
from inferd.engine.worker.cpu_runner import CpuRunner

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
        assert isinstance(core.runner, CpuRunner)
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


def attention_seconds(runner: CpuRunner) -> list[float]:
    """Of the attention of all layers, some times over."""
    width = -(-LENGTH // runner.block_size)
    tables = np.arange(SEQUENCES * width, dtype=np.int32).reshape(SEQUENCES, width)
    last = np.full(SEQUENCES, LENGTH - 1, np.int32)
    for pair in runner.cache.layers:  # what was never written would be read from one page of zeros
        for array in pair:
            array[:] = 0x3C
    runner.run(next_tokens(tables, last, runner.block_size))
    program = runner.program[[name == "attend" for name in runner.operations]]
    runner.team.run(program, len(program))
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        runner.team.run(program, len(program))
        found.append(time.perf_counter() - start)
    return found


def next_tokens(
    tables: NDArray[np.int32], positions: NDArray[np.int32], block_size: int
) -> InputBatch:
    """One more token of each sequence."""
    count = np.arange(len(positions) + 1, dtype=np.int32)
    blocks = tables[count[:-1], positions // block_size]
    return InputBatch(
        token_ids=count[1:],
        positions=positions,
        slot_mapping=blocks * block_size + positions % block_size,
        query_start=count,
        seq_lens=positions + 1,
        block_tables=tables,
        logit_rows=count[:-1],
    )


if __name__ == "__main__":
    main()
