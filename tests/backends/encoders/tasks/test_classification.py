from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from inferd.backends.encoders.tasks.classification import sigmoid
from inferd.errors import Unsupported

TEXTS = ["the cat sat on a mat", "who", "", "my name is anna. " * 4]
PAIRS = ["a cat", "anna lives in paris", "", "berlin"]
HEAD = "BertForSequenceClassification"


def pipeline(folder: Path) -> Any:
    """transformers' own, with every label in the model's order."""
    made = transformers.pipeline("text-classification", model=str(folder), device="cpu")

    def ask_one(text: str, pair: str = "") -> list[float]:
        said = made({"text": text, "text_pair": pair} if pair else text, top_k=None)
        scores = {entry["label"]: entry["score"] for entry in said}
        return [scores[made.model.config.id2label[i]] for i in range(len(scores))]

    return ask_one


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"problem_type": "single_label_classification"},
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
    ],
    ids=str,
)
def test_scores_are_those_of_transformers_own_pipeline(more: dict[str, Any]) -> None:
    folder = tiny.saved(HEAD, names="bad so-so good", **more)
    model, wanted = opened(folder), pipeline(folder)
    assert model.description.outputs[0].labels == ("bad", "so-so", "good")
    alone = ask(model, text=TEXTS)
    pairs = ask(model, text=TEXTS, text_pair=PAIRS)
    for row, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True)):
        for found, expected in ((alone, wanted(text)), (pairs, wanted(text, pair))):
            np.testing.assert_allclose(found["scores"][row], expected, rtol=1e-4, atol=1e-5)
            best = ("bad", "so-so", "good")[int(np.argmax(expected))]
            assert found["label"][row] == best.encode()
    assert not np.allclose(alone["scores"][0], pairs["scores"][0])
    assert pairs["tokens"][0] == alone["tokens"][0] + 3


def logits(folder: Path) -> list[float]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    module = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text, pair in zip(TEXTS, PAIRS, strict=True):
        inputs = tokenizer(text, pair or None, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            found.append(float(module(**inputs).logits[0, 0]))
    return found


IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("more", "activates"),
    [
        ({}, True),
        ({"problem_type": "regression"}, False),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5"}}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
        ({"sbert_ce_default_activation_function": IDENTITY}, False),
    ],
    ids=str,
)
def test_one_label_is_a_reranker(tmp_path: Path, more: dict[str, Any], activates: bool) -> None:
    folder = tiny.copy_of(tiny.saved(HEAD, names="LABEL_0"), tmp_path / "m")
    tiny.edit(folder / "config.json", **more)
    found = ask(opened(folder), text=TEXTS, text_pair=PAIRS)
    wanted = np.array(logits(folder), np.float32)
    np.testing.assert_allclose(found["logit"], wanted, rtol=1e-4, atol=1e-5)
    scores = 1 / (1 + np.exp(-wanted)) if activates else wanted
    np.testing.assert_allclose(found["score"], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [torch.nn.Sigmoid(), torch.nn.Identity()], ids=str)
def test_scores_are_those_of_a_cross_encoder_that_saved_itself(
    tmp_path: Path, activation: torch.nn.Module
) -> None:
    from sentence_transformers import CrossEncoder

    base = str(tiny.saved(HEAD, names="LABEL_0"))
    theirs = CrossEncoder(base, device="cpu", activation_fn=activation)
    theirs.save_pretrained(str(tmp_path / "m"))
    wanted = theirs.predict(list(zip(TEXTS, "abcd", strict=True)))
    found = ask(opened(tmp_path / "m"), text=TEXTS, text_pair=["a", "b", "c", "d"])
    np.testing.assert_allclose(found["score"], wanted, rtol=1e-4, atol=1e-5)


def test_an_unknown_activation_is_told(tmp_path: Path) -> None:
    folder = tiny.copy_of(tiny.saved(HEAD, names="LABEL_0"), tmp_path / "m")
    tiny.edit(folder / "config.json", sentence_transformers={"activation_fn": "my.Own"})
    with pytest.raises(Unsupported, match=r"'my\.Own' for scores; known are Sigmoid and Identity"):
        opened(folder)


def test_a_sigmoid_of_anything_is_a_number() -> None:
    found = sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4], np.float32))
    np.testing.assert_allclose(found, [0, 0.26894143, 0.5, 0.7310586, 1], rtol=1e-6)
    assert found.dtype == np.float32
