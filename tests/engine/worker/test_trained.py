"""What smaller weights cost a model that was trained: perplexity on text it has not seen."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engine.steps import Steps
from inferd.engine.models.registry import describe
from inferd.engine.text.tokenizer import Tokenizer
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.cpu_program import Limits
from inferd.engine.worker.cpu_runner import CpuRunner

MODEL = Path(__file__).parents[3] / "examples" / "tiny_llama" / "model"
TOKENS = 6000


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    tokenizer = Tokenizer.load(MODEL)
    found: list[list[int]] = []
    for text in json.loads((MODEL / "held_out.json").read_text()):
        ids = tokenizer.encode(text, add_special_tokens=False)[:400]
        if len(ids) > 1:
            found.append(ids)
        if sum(map(len, found)) > TOKENS:
            break
    return found


def perplexity(path: Path, texts: list[list[int]], form: str, kv: str) -> float:
    """exp of the mean negative log probability of every token after a text's first."""
    checkpoint = Checkpoint(path)
    spec, sources = describe(path, checkpoint.names())
    limits = Limits(tokens=400, sequences=1, model_len=512, num_blocks=16, threads=2, kv=kv)
    runner = CpuRunner(spec, sources, checkpoint, form, limits)
    total, count = 0.0, 0
    for ids in texts:
        logits = Steps(runner).run({0: ids}, every=True)[0][:-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(ids) - 1), ids[1:]]
        total += float((np.log(np.exp(logits).sum(axis=1)) - chosen).sum())
        count += len(ids) - 1
    runner.close()
    return math.exp(total / count)


def q4_0(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """llama.cpp's rounding: groups of 32, the number of largest magnitude becomes -8 scales."""
    groups = weight.reshape(weight.shape[0], -1, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    scale = (extreme / -8).astype(np.float16).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    rounded = (np.clip(np.floor(groups * inverse + 8.5), 0, 15) - 8) * scale
    return rounded.reshape(weight.shape)


def rounded_by_q4_0(to: Path) -> Path:
    """The model with the weights of its products so rounded, in float32."""
    shutil.copytree(MODEL, to, dirs_exist_ok=True)
    checkpoint = Checkpoint(MODEL)
    weights = {}
    for name in checkpoint.names():
        weight = checkpoint.float32(name)
        weights[name] = q4_0(weight) if name.endswith("proj.weight") else weight
    weights["lm_head.weight"] = q4_0(checkpoint.float32("model.embed_tokens.weight"))
    (to / "model.safetensors").unlink()
    save_file(weights, to / "model.safetensors")
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return to


def test_int8_costs_under_one_percent_and_int4_no_more_than_q4_0(
    texts: list[list[int]], tmp_path: Path
) -> None:
    exact = perplexity(MODEL, texts, "f32", "f32")
    found = {form: perplexity(MODEL, texts, form, "bf16") / exact for form in ("bf16", "i8", "i4")}
    theirs = perplexity(rounded_by_q4_0(tmp_path), texts, "f32", "f32") / exact
    small = perplexity(MODEL, texts, "f32", "i8") / exact
    print(f"float32 {exact:.3f}; times that: {found}")
    print(f"times that: weights as Q4_0 rounds them {theirs:.4f}, int8 cache {small:.4f}")
    assert found["bf16"] < 1.002
    assert found["i8"] < 1.01
    assert found["i4"] < theirs
    assert small < 1.01
