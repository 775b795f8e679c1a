"""The CPU's kernels compute what transformers computes, for every family, in every mixture of
prefill and decode; the smaller forms of weights and cache come near, and how near is stated."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoints import (
    FAMILIES,
    MODELS,
    VOCAB,
    config,
    continues,
    copied,
    folder,
    greedy,
    logits,
    prompt,
)
from engine.steps import Steps
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.cpu_program import Limits
from inferd.engine.worker.cpu_runner import CpuRunner
from inferd.errors import Unsupported

NEW = 64


def runner(
    path: Path, form: str = "f32", kv: str = "f32", cache: Path | None = None, threads: int = 2
) -> CpuRunner:
    checkpoint = Checkpoint(path)
    spec, sources = describe(path, checkpoint.names())
    limits = Limits(
        tokens=256, sequences=8, model_len=spec.max_position, num_blocks=24, threads=threads, kv=kv
    )
    return CpuRunner(spec, sources, checkpoint, form, limits, cache)


def assert_same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(np.abs(theirs).max()))


def distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_prefill_logits_equal_transformers(name: str) -> None:
    tokens = prompt(70)
    made = runner(folder(name))
    assert_same(Steps(made).run({0: tokens}, every=True)[0], logits(name, tokens))
    made.close()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_greedy_tokens_equal_transformers_alone(name: str) -> None:
    tokens = prompt(40, seed=1)
    made = runner(folder(name))
    (found,) = Steps(made).greedy([tokens], NEW, chunks=[len(tokens)])
    assert found == greedy(name, tokens, NEW)
    made.close()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_greedy_tokens_equal_in_chunks_and_beside_others(name: str) -> None:
    lengths, chunks = [40, 40, 33, 5, 1], [1, 7, 16, 64, 2]
    prompts = [prompt(length, seed) for seed, length in enumerate(lengths)]
    made = runner(folder(name))
    found = Steps(made, seed=3).greedy(prompts, NEW, chunks)
    for tokens, generated in zip(prompts, found, strict=True):
        assert continues(name, tokens, generated)
    made.close()


@pytest.mark.parametrize("size", [1, 2, 5, 31, 32, 33, 48])
def test_chunks_of_any_size_give_the_same_logits(size: int) -> None:
    tokens = prompt(70)
    made = runner(folder("gemma3"))
    steps = Steps(made)
    parts = [
        steps.run({0: tokens[start : start + size]}, every=True)[0]
        for start in range(0, len(tokens), size)
    ]
    assert_same(np.concatenate(parts), logits("gemma3", tokens))
    made.close()


def test_longrope_is_chosen_by_a_sequences_own_length() -> None:
    long, short = prompt(150), prompt(30)
    made = runner(folder("phi3"))
    found = Steps(made).run({0: long, 1: short}, every=True)
    assert_same(found[0], logits("phi3", long))
    assert_same(found[1], logits("phi3", short))
    made.close()


def test_only_the_rows_asked_for_come_back_in_their_order() -> None:
    made = runner(folder("qwen2"))
    steps = Steps(made)
    every = steps.run({0: prompt(9)}, every=True)[0]
    batch = steps.batch({1: prompt(9)})
    batch.logit_rows = np.array([7, 0, 7], np.int32)
    assert_same(made.run(batch), every[[7, 0, 7]])
    batch.logit_rows = np.array([], np.int32)
    assert made.run(batch).shape == (0, VOCAB)
    made.close()


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("form", "kv", "most"),
    [("bf16", "bf16", 0.05), ("f32", "i8", 0.05), ("i8", "bf16", 0.15), ("i4", "bf16", 0.75)],
)
def test_smaller_forms_are_near(name: str, form: str, kv: str, most: float) -> None:
    """Relative error of all logits. These models amplify every error: their weights are random
    and large. What rounding costs a trained model is stated by `test_trained.py`; that the products
    themselves are exact, by `kernels/test_linear.py`."""
    tokens = prompt(40)
    made = runner(folder(name), form, kv)
    found = Steps(made).run({0: tokens}, every=True)[0]
    error = distance(found, logits(name, tokens))
    print(f"{name} {form} weights, {kv} cache: {error:.4f}")
    assert error < most
    made.close()


@pytest.mark.parametrize("form", ["bf16", "i8", "i4"])
def test_the_tokens_of_a_form_do_not_depend_on_the_batch(form: str) -> None:
    """Alone, in chunks, and beside others: the same kernels on the same numbers."""
    prompts = [prompt(length, seed) for seed, length in enumerate([40, 33, 5])]
    made = runner(folder("llama"), form, "bf16")
    together = Steps(made, seed=1).greedy(prompts, 32, [64, 64, 64])
    alone = [Steps(made, seed=2).greedy([p], 32, [7])[0] for p in prompts]
    assert together == alone
    made.close()


@pytest.mark.parametrize("form", ["bf16", "i8", "i4"])
def test_packed_weights_come_back_from_the_cache(form: str, tmp_path: Path) -> None:
    tokens = prompt(30)
    first = runner(folder("mistral"), form, "f32", tmp_path)
    second = runner(folder("mistral"), form, "f32", tmp_path)
    assert [r.describe()["packed_from_cache"] for r in (first, second)] == [False, True]
    ours = [Steps(r).run({0: tokens})[0] for r in (first, second)]
    assert (ours[0] == ours[1]).all()
    first.close()
    second.close()


def test_one_thread_computes_what_two_compute() -> None:
    tokens = prompt(40)
    ours = []
    for threads in (1, 2, 3):
        made = runner(folder("qwen3"), "i8", "bf16", threads=threads)
        ours.append(Steps(made).run({0: tokens}, every=True)[0])
        made.close()
    assert (ours[0] == ours[1]).all()
    assert (ours[0] == ours[2]).all()


def test_sizes_that_the_kernels_do_not_take_are_told(tmp_path: Path) -> None:
    path = copied("llama", tmp_path)
    (path / "config.json").write_text(json.dumps(config(path) | {"head_dim": 20}))
    with pytest.raises(Unsupported, match=r"heads of 20 .* multiples of 16"):
        runner(path)
