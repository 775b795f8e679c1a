import json
from pathlib import Path

import pytest
import transformers

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from inferd.errors import ConfigError, InvalidRequest

TEXTS = [
    "the cat [MASK] on a mat", "[MASK]", "my name is [MASK] [MASK]. " * 3,
    "who lives in [MASK], anna?",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.saved("BertForMaskedLM")


def test_candidates_are_those_of_transformers_own_pipeline(folder: Path) -> None:
    wanted = transformers.pipeline("fill-mask", model=str(folder), device="cpu", top_k=3)
    found = ask(opened(folder, top_k=3), text=TEXTS)["candidates"]
    for text, answer in zip(TEXTS, found, strict=True):
        mine, expected = json.loads(answer), wanted(text)
        if text.count("[MASK]") == 1:
            mine, expected = [mine], [expected]
        assert len(mine) == len(expected) == text.count("[MASK]")
        for row, other in zip(mine, expected, strict=True):
            assert len(row) == 3
            for candidate, theirs in zip(row, other, strict=True):
                assert candidate.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-4)
                assert candidate == theirs


def test_a_text_without_a_mask_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"text has no \[MASK\].*put one"):
        ask(opened(folder), text=["the cat [MASK]", "the cat"])


@pytest.mark.parametrize("top_k", [0, 10_000])
def test_how_many_candidates_there_may_be(folder: Path, top_k: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to") as caught:
        opened(folder, top_k=top_k)
    assert caught.value.field == "parameters.top_k"
