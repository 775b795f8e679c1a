"""A whole model on Triton's kernels gives what it gives on torch's."""

import numpy as np
import pytest

from engine.checkpoints import folder, prompt
from engine.steps import Steps
from engine.worker.kernels import DEVICE, kernels, needs_interpreter, run_interpreted
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.attention import ReferenceAttention
from inferd.engine.worker.decode_graphs import GraphLimits
from inferd.engine.worker.torch_layers import TorchPieces
from inferd.engine.worker.torch_runner import TorchRunner
from inferd.engine.worker.torch_weights import load_weights


@needs_interpreter
def test_interpreted() -> None:
    run_interpreted(__file__)


def runners(name: str, graphs: GraphLimits | None = None) -> list[TorchRunner]:
    """The reference, and the same on Triton's kernels with those graphs."""
    from inferd.engine.worker.triton_attention import TritonAttention
    from inferd.engine.worker.triton_layers import TritonPieces

    checkpoint = Checkpoint(folder(name))
    spec, sources = describe(folder(name), checkpoint.names())
    weights = load_weights(spec, sources, checkpoint, device=DEVICE.type)
    sizes = {"num_blocks": 8, "block_size": 16}
    capture = None if DEVICE.type == "cuda" else lambda step: step
    return [
        TorchRunner(
            spec, weights, attention=ReferenceAttention(), pieces=TorchPieces(), **sizes
        ),
        TorchRunner(
            spec, weights, attention=TritonAttention(DEVICE), pieces=TritonPieces(),
            graphs=graphs, capture=capture, **sizes,
        ),
    ]  # fmt: skip


def compare(made: list[TorchRunner], given: list[dict[int, list[int]]]) -> None:
    """Run the same steps with both; every logit is the same."""
    found = []
    for runner in made:
        steps = Steps(runner)
        rows = [row for step in given for row in steps.run(step, every=True).values()]
        found.append(np.concatenate(rows))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=2e-4)


@kernels
@pytest.mark.parametrize("name", ["gemma2", "qwen3"])
def test_logits_equal_the_references(name: str) -> None:
    """A prompt in two chunks beside another that decodes."""
    given = [{0: prompt(9)}, {1: prompt(17, 1), 0: [4]}, {0: [5], 1: prompt(3, 2)}]
    compare(runners(name), given)


@kernels
def test_replayed_steps_with_rows_added_equal_the_references() -> None:
    """Three sequences in a graph of four rows, then two of them in one of two."""
    given = [
        {n: prompt(5 + 6 * n, n) for n in range(3)},
        {0: [4], 1: [5], 2: [6]},
        {2: [7], 0: [8]},
    ]
    compare(runners("llama", GraphLimits(4, 128)), given)
