import json
from pathlib import Path

import pytest
import transformers

from backends.encoders import tiny
from backends.encoders.opened import ask, opened

TEXTS = [
    "my name is anna and the cat lives in berlin.", "paris", "", "zzz anna lives ÖÄ in x",
    "the cat sat on a mat " * 9, "ひ cat",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.saved("BertForTokenClassification", names=" ".join(tiny.NAMES))


@pytest.mark.parametrize("aggregation", ["simple", "none"])
def test_entities_are_those_of_transformers_own_pipeline(folder: Path, aggregation: str) -> None:
    wanted = transformers.pipeline(
        "token-classification", model=str(folder), aggregation_strategy=aggregation, device="cpu"
    )
    found = ask(opened(folder, aggregation=aggregation), text=TEXTS)["entities"]
    kinds = set()
    for text, answer in zip(TEXTS, found, strict=True):
        expected = wanted(text) if text else []
        mine = json.loads(answer)
        assert len(mine) == len(expected)
        for entity, other in zip(mine, expected, strict=True):
            assert entity.pop("score") == pytest.approx(float(other.pop("score")), abs=1e-4)
            assert entity == other
            kinds.add(entity.get("entity_group") or entity["entity"])
    assert len(kinds) > 1  # the random model says enough to be compared


def test_the_default_joins_words(folder: Path) -> None:
    assert ask(opened(folder), text=TEXTS)["entities"].tolist() == (
        ask(opened(folder, aggregation="simple"), text=TEXTS)["entities"].tolist()
    )
