"""A whole model on Triton's kernels gives what it gives on torch's."""

import numpy as np
import pytest

from engine.checkpoints import folder, prompt
from engine.steps import Steps
from engine.worker.kernels import DEVICE, kernels, needs_interpreter, run_interpreted
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.attention import ReferenceAttention
from inferd.engine.worker.torch_layers import TorchPieces
from inferd.engine.worker.torch_runner import TorchRunner
from inferd.engine.worker.torch_weights import load_weights


@needs_interpreter
def test_interpreted() -> None:
    run_interpreted(__file__)


@kernels
@pytest.mark.parametrize("name", ["gemma2", "qwen3"])
def test_logits_equal_the_references(name: str) -> None:
    """A prompt in two chunks beside another that decodes."""
    from inferd.engine.worker.triton_attention import TritonAttention
    from inferd.engine.worker.triton_layers import TritonPieces

    checkpoint = Checkpoint(folder(name))
    spec, sources = describe(folder(name), checkpoint.names())
    weights = load_weights(spec, sources, checkpoint, device=DEVICE.type)
    backends = [
        (ReferenceAttention(), TorchPieces()),
        (TritonAttention(DEVICE), TritonPieces()),
    ]
    found = []
    for attention, pieces in backends:
        steps = Steps(
            TorchRunner(
                spec, weights, num_blocks=8, block_size=16, attention=attention, pieces=pieces
            )
        )
        given = [{0: prompt(9)}, {1: prompt(17, 1), 0: [4]}, {0: [5], 1: prompt(3, 2)}]
        found.append(
            np.concatenate([row for step in given for row in steps.run(step, every=True).values()])
        )
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=2e-4)
