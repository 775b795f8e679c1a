"""The reference runner computes what transformers computes, for every family."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoints import (
    FAMILIES,
    MODELS,
    VOCAB,
    as_transformers_4,
    config,
    continues,
    copied,
    folder,
    greedy,
    logits,
    model,
    prompt,
)
from engine.steps import Steps
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.torch_runner import TorchRunner
from inferd.engine.worker.torch_weights import load_weights
from inferd.errors import BackendError, ConfigError

NEW = 64
"""Tokens to generate."""


def runner(path: Path, dtype: str = "float32", **options: Any) -> TorchRunner:
    checkpoint = Checkpoint(path)
    spec, sources = describe(path, checkpoint.names())
    weights = load_weights(spec, sources, checkpoint, dtype=dtype)
    return TorchRunner(spec, weights, num_blocks=48, block_size=16, **options)


def assert_same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=3e-5 * float(np.abs(theirs).max()))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_prefill_logits_equal_transformers(name: str) -> None:
    tokens = prompt(50)
    found = Steps(runner(folder(name))).run({0: tokens}, every=True)[0]
    assert_same(found, logits(name, tokens))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_greedy_tokens_equal_transformers_alone(name: str) -> None:
    tokens = prompt(40, seed=1)
    (found,) = Steps(runner(folder(name))).greedy([tokens], NEW, chunks=[len(tokens)])
    assert found == greedy(name, tokens, NEW)
    assert len(set(found)) > 8  # it is no loop that any model would end in


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_greedy_tokens_equal_in_chunks_and_beside_others(name: str) -> None:
    """Prompts of mixed lengths, each cut into chunks of its own size, in the same steps."""
    lengths, chunks = [40, 40, 33, 5, 1], [1, 7, 16, 64, 2]
    prompts = [prompt(length, seed) for seed, length in enumerate(lengths)]
    found = Steps(runner(folder(name)), seed=3).greedy(prompts, NEW, chunks)
    for tokens, generated in zip(prompts, found, strict=True):
        assert len(generated) == NEW
        assert continues(name, tokens, generated)


@pytest.mark.parametrize("size", [1, 2, 5, 15, 16, 17, 48])
def test_chunks_of_any_size_give_the_same_logits(size: int) -> None:
    tokens = prompt(48)
    steps = Steps(runner(folder("gemma3")))
    parts = [
        steps.run({0: tokens[start : start + size]}, every=True)[0]
        for start in range(0, len(tokens), size)
    ]
    assert_same(np.concatenate(parts), logits("gemma3", tokens))


def test_longrope_is_chosen_by_a_sequences_own_length() -> None:
    """A long prompt and a short one in the same step; the model's short factors end at 128."""
    long, short = prompt(150), prompt(30)
    found = Steps(runner(folder("phi3"))).run({0: long, 1: short}, every=True)
    assert_same(found[0], logits("phi3", long))
    assert_same(found[1], logits("phi3", short))


def test_only_the_rows_asked_for_come_back_in_their_order() -> None:
    made = runner(folder("qwen2"))
    steps = Steps(made)
    every = steps.run({0: prompt(9)}, every=True)[0]
    batch = steps.batch({1: prompt(9)})
    batch.logit_rows = np.array([7, 0, 7], np.int32)
    found = made.run(batch)
    assert_same(found, every[[7, 0, 7]])
    found[:] = 0.0  # it may be written to
    batch.logit_rows = np.array([], np.int32)
    assert made.run(batch).shape == (0, VOCAB)


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3"])
def test_a_configuration_of_transformers_4_gives_the_same(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path)
    old = json.dumps(as_transformers_4(config(path)))
    (path / "config.json").write_text(old, encoding="utf-8")
    tokens = prompt(20)
    assert_same(Steps(runner(path)).run({0: tokens}, every=True)[0], logits(name, tokens))


def test_a_sharded_checkpoint_gives_the_same(tmp_path: Path) -> None:
    model("gpt2").save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    tokens = prompt(20)
    assert_same(Steps(runner(tmp_path)).run({0: tokens}, every=True)[0], logits("gpt2", tokens))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_bfloat16_is_near(name: str) -> None:
    tokens = prompt(40)
    found = Steps(runner(folder(name), "bfloat16")).run({0: tokens}, every=True)[0]
    expected = logits(name, tokens)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert found.dtype == np.float32
    assert error < 0.05


def test_it_says_what_it_is() -> None:
    made = runner(folder("llama"))
    told = made.describe()
    assert told["dtype"] == "float32"
    assert told["attention"] == "reference"
    head_dim = made.spec.layers[0].attention.head_dim
    assert told["kv_cache_bytes"] == 3 * 2 * 48 * 16 * 2 * head_dim * 4
    assert told["weight_bytes"] == Checkpoint(folder("llama")).num_bytes
    made.close()
    assert made.describe()["weight_bytes"] == 0


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype: 'int3' is none of: float32"):
        runner(folder("llama"), "int3")
    path = copied("llama", tmp_path)
    held = config(path) | {"intermediate_size": 97}
    (path / "config.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(BackendError, match=r"mlp.gate_proj.weight \+ .* make layers.0.gate_up"):
        runner(path)
