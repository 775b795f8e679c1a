import math

import orjson
import pytest

from inferd.protocols.http.openai.logprobs import (
    LEAST,
    TokenTexts,
    chat_logprobs,
    completion_logprobs,
    finite,
    prompt_logprobs,
)
from inferd.types.generation import TokenLogprobs

PIECES = {1: b"a", 2: b"bc", 3: "€".encode()[:2], 4: "€".encode()[2:], 5: b"a"}


class Tokens:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def token_bytes(self, token_id: int) -> bytes:
        self.asked.append(token_id)
        return PIECES[token_id]


def scored(token_id: int, logprob: float, *top: tuple[int, float]) -> TokenLogprobs:
    return TokenLogprobs(token_id, logprob, 1, list(top))


def test_a_tokens_text_is_looked_up_once() -> None:
    tokens = Tokens()
    texts = TokenTexts(tokens)
    assert [texts[1], texts[2], texts[1]] == ["a", "bc", "a"]
    assert texts.both(3) == ("�", PIECES[3])
    assert tokens.asked == [1, 2, 3]
    assert TokenTexts(tokens, as_ids=True).both(2) == ("token_id:2", b"bc")


@pytest.mark.parametrize("score", [-math.inf, -1e30, math.nan, LEAST])
def test_what_json_cannot_say_is_the_least(score: float) -> None:
    assert finite(score) == LEAST
    texts = TokenTexts(Tokens())
    one = scored(1, score, (2, score))
    listed, _ = completion_logprobs([one], 1, texts, 0)
    for body in (listed, chat_logprobs([one], texts, 1), prompt_logprobs([one], texts)):
        assert b"null" not in orjson.dumps(body)


def test_offsets_go_on_from_piece_to_piece() -> None:
    texts = TokenTexts(Tokens())
    first, offset = completion_logprobs([None, scored(2, -1.0)], 1, texts, 0)
    assert first["tokens"] == ["a", "bc"]
    assert (first["text_offset"], offset) == ([0, 1], 3)
    assert first["token_logprobs"] == [None, -1.0]
    assert first["top_logprobs"] == [None, {"bc": -1.0}]
    second, offset = completion_logprobs([scored(1, -2.0)], 1, texts, offset)
    assert (second["text_offset"], offset) == ([3], 4)


def test_of_tokens_that_look_alike_the_likelier_is_kept() -> None:
    listed, _ = completion_logprobs(
        [scored(5, -3.0, (1, -0.5), (2, -1.0))], 1, TokenTexts(Tokens()), 0
    )
    assert listed["top_logprobs"] == [{"a": -0.5, "bc": -1.0}]
    assert listed["token_logprobs"] == [-3.0]


def test_a_chat_lists_bytes_and_no_more_than_asked() -> None:
    one = scored(3, -1.0, (3, -1.0), (4, -2.0))
    (entry,) = chat_logprobs([one], TokenTexts(Tokens()), 1)["content"]
    assert entry["bytes"] == list(PIECES[3])
    assert [top["logprob"] for top in entry["top_logprobs"]] == [-1.0]
    (entry,) = chat_logprobs([one], TokenTexts(Tokens()), -1)["content"]
    assert len(entry["top_logprobs"]) == 2


def test_a_prompts_scores_have_the_token_and_the_likeliest() -> None:
    first, second = prompt_logprobs([None, scored(2, -3.0, (1, -0.1))], TokenTexts(Tokens()))
    assert first is None
    assert second == {
        "2": {"logprob": -3.0, "rank": 1, "decoded_token": "bc"},
        "1": {"logprob": -0.1, "rank": 1, "decoded_token": "a"},
    }
