"""Replayed steps give what steps give that are not; here what is replayed is the step itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import folder, prompt
from engine.steps import Steps
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.decode_graphs import GraphLimits, Step, graph_sizes
from inferd.engine.worker.torch_runner import TorchRunner
from inferd.engine.worker.torch_weights import load_weights

BLOCKS = 40


class Captured:
    """Stands for CUDA's capture: counts, and runs the step again at every replay."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0

    def __call__(self, step: Step) -> Step:
        self.captures += 1
        out = step()

        def replay() -> torch.Tensor:
            self.replays += 1
            return out.copy_(step())

        return replay


def runner(path: Path, capture: Captured | None = None, max_num_seqs: int = 6) -> TorchRunner:
    checkpoint = Checkpoint(path)
    spec, sources = describe(path, checkpoint.names())
    limits = GraphLimits(max_num_seqs, 128) if capture else None
    return TorchRunner(
        spec, load_weights(spec, sources, checkpoint), num_blocks=BLOCKS, block_size=16,
        graphs=limits, capture=capture,
    )  # fmt: skip


def test_sizes_are_powers_of_two_and_the_most() -> None:
    assert graph_sizes(1) == [1]
    assert graph_sizes(6) == [1, 2, 4, 6]
    assert graph_sizes(8) == [1, 2, 4, 8]


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3", "gpt2"])
def test_tokens_are_the_same_with_rows_added(name: str) -> None:
    prompts, chunks = [prompt(n, n) for n in (20, 9, 1, 33, 5)], [20, 4, 1, 16, 5]
    expected = Steps(runner(folder(name)), seed=2).greedy(prompts, 20, chunks)
    captured = Captured()
    found = Steps(runner(folder(name), captured), seed=2).greedy(prompts, 20, chunks)
    assert found == expected
    assert captured.captures == 2  # of 6 rows, and of 4 where one sequence has ended
    assert captured.replays >= 15


def test_rows_that_are_added_touch_nobodys_blocks() -> None:
    captured = Captured()
    made = runner(folder("llama"), captured)
    steps = Steps(made)
    steps.run({n: prompt(16, n) for n in range(3)})
    before = [cache.clone() for cache in made._cache]
    batch = steps.batch({n: [5] for n in range(3)})
    made.run(batch)
    for old, new in zip(before, made._cache, strict=True):
        changed = (old != new).flatten(3).any(-1).any(0)[:BLOCKS].nonzero()
        slots = {int(block * 16 + offset) for block, offset in changed}
        assert slots == set(batch.slot_mapping.tolist())


def test_only_the_rows_asked_for_come_back_in_their_order() -> None:
    made = runner(folder("llama"), Captured())
    steps = Steps(made)
    steps.run({n: prompt(8, n) for n in range(3)})
    batch = steps.batch({n: [n] for n in range(3)})
    every = made.run(batch).copy()
    batch.logit_rows = np.array([2, 0], np.int32)
    np.testing.assert_array_equal(made.run(batch), every[[2, 0]])
    batch.logit_rows = np.array([], np.int32)
    assert len(made.run(batch)) == 0


def test_other_steps_are_not_replayed() -> None:
    captured = Captured()
    made = runner(folder("llama"), captured, max_num_seqs=2)
    steps = Steps(made)
    steps.run({0: prompt(8), 1: prompt(1)})
    steps.run({0: [1], 1: [1], 2: [1]})  # more sequences than any graph has rows
    assert captured.captures == 0
    steps.run({0: prompt(120)})
    steps.run({0: [1]})  # longer than the longest sequence
    assert captured.captures == 0
    steps.run({1: [1]})
    assert captured.captures == 1


def test_everything_can_be_captured_at_the_start() -> None:
    captured = Captured()
    made = runner(folder("llama"), captured)
    made.warm_up()
    assert captured.captures == 4
    steps = Steps(made)
    steps.run({0: prompt(8)})
    steps.run({0: [1]})
    assert captured.captures == 4
    made.close()
    assert made.describe()["graphs"] is False
