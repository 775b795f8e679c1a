from typing import Any

import numpy as np
import pytest

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from protocols.http.texts.served import CLASSIFIER, Texts, with_texts

TEXTS = ["the cat sat on a mat", "who", "anna lives in paris"]
NAMES = ["bad", "so-so", "good"]


@with_texts("classifier", "reranker")
async def test_labels_and_how_likely_each_is(texts: Texts) -> None:
    said = await texts.post("/classify", input=TEXTS)
    wanted = ask(opened(tiny.saved(CLASSIFIER, names="bad so-so good")), text=TEXTS)
    assert (said["object"], said["model"]) == ("list", "classifier")
    for index, entry in enumerate(said["data"]):
        assert (entry["index"], entry["num_classes"]) == (index, 3)
        np.testing.assert_allclose(entry["probs"], wanted["scores"][index], rtol=1e-4, atol=1e-6)
        assert entry["label"] == NAMES[int(np.argmax(entry["probs"]))]
    count = int(wanted["tokens"].sum())
    assert said["usage"] == {
        "prompt_tokens": count, "total_tokens": count, "completion_tokens": 0
    }  # fmt: skip
    one = await texts.post("/classify", model="classifier", input=TEXTS[0])
    assert one["data"][0]["label"] == said["data"][0]["label"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "input is required"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": "a", "use_activation": False}, "use_activation", "leave it out"),
        ({"input": "a", "activation": False}, "activation", "leave it out"),
    ],
)
@with_texts("classifier")
async def test_what_is_wrong_is_named(
    texts: Texts, body: dict[str, Any], param: str, message: str
) -> None:
    error = await texts.error("/classify", **body)
    assert error["param"] == param
    assert message in error["message"]
