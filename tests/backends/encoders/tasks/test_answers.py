from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from inferd.errors import InvalidRequest

QUESTIONS = ["who lives in paris?", "where is the cat", "what", "who"]
CONTEXTS = [
    "anna lives in paris, the cat lives in berlin.", "the cat sat on a mat.", "cat",
    "anna. " + "the cat sat on a mat where who lives " * 12 + "berlin.",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.saved("BertForQuestionAnswering")


def answered(folder: Path, question: str, context: str) -> tuple[str, float, int, int]:
    """The best answer of all windows, looked for span by span."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    module = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    found = tokenizer(
        question, context, truncation="only_second", stride=32, max_length=tiny.MAX_LEN,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    best = ("", -1.0, 0, 0)
    for number, ids in enumerate(found["input_ids"]):
        sequences = found.sequence_ids(number)
        with torch.inference_mode():
            types = torch.tensor([found["token_type_ids"][number]])
            said = module(input_ids=torch.tensor([ids]), token_type_ids=types)
        chances = []
        for logits in (said.start_logits[0], said.end_logits[0]):
            outside = torch.tensor([s != 1 and i > 0 for i, s in enumerate(sequences)])
            chances.append(torch.softmax(logits.masked_fill(outside, -10000.0), 0))
        places = [i for i, s in enumerate(sequences) if s == 1]
        for first, last in product(places, places):
            score = float(chances[0][first] * chances[1][last])
            if first <= last < first + 15 and score > best[1]:
                words = [found.token_to_word(number, i) for i in (first, last)]
                start = found.word_to_chars(number, words[0], 1).start
                end = found.word_to_chars(number, words[1], 1).end
                best = (context[start:end], score, start, end)
    return best


def test_answers_are_the_best_spans_of_all_windows(folder: Path) -> None:
    found = ask(opened(folder), question=QUESTIONS, context=CONTEXTS)
    for row, (question, context) in enumerate(zip(QUESTIONS, CONTEXTS, strict=True)):
        answer, score, start, end = answered(folder, question, context)
        assert found["answer"][row].decode() == answer
        assert found["score"][row] == pytest.approx(score, abs=1e-4)
        assert (found["start"][row], found["end"][row]) == (start, end)
        assert answer


def test_a_context_without_words_has_no_answer(folder: Path) -> None:
    found = ask(opened(folder), question=["who", "who"], context=["", "anna"])
    assert found["answer"].tolist() == [b"", b"anna"]
    np.testing.assert_array_equal(found["end"], [0, 4])
    assert found["score"][0] == 0


def test_a_question_that_leaves_no_room_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"question has 70 tokens.*shorten it"):
        ask(opened(folder), question=["the " * 70], context=["anna"])


def test_a_long_context_is_refused_where_nothing_is_to_be_cut(folder: Path) -> None:
    model = opened(folder, truncation="refuse")
    with pytest.raises(InvalidRequest, match="maximum context length is 64 tokens"):
        ask(model, question=["who"], context=[CONTEXTS[3]])
    assert ask(model, question=["who"], context=["anna"])["answer"].tolist() == [b"anna"]
