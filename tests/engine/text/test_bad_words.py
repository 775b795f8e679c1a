import pytest

from engine.text.vocabularies import byte_fallback, byte_level
from inferd.engine.text.bad_words import bad_words_token_ids
from inferd.errors import InvalidRequest


def test_a_word_at_the_start_and_behind_a_space() -> None:
    tokenizer = byte_level()
    found = bad_words_token_ids(tokenizer, ["fox", " fox"])
    assert [tokenizer.decode(list(ids)) for ids in found] == ["fox", " fox"]


def test_spellings_come_once() -> None:
    found = bad_words_token_ids(byte_fallback(), ["quick", "quick", "  quick"])
    assert len(found) == len(set(found))
    assert found[0] == tuple(byte_fallback().encode("quick", add_special_tokens=False))


def test_no_special_tokens() -> None:
    tokenizer = byte_level()
    ids = {token for word in bad_words_token_ids(tokenizer, ["fox"]) for token in word}
    assert not ids & tokenizer.special_ids


@pytest.mark.parametrize("word", ["", "  ", "\n"])
def test_no_word(word: str) -> None:
    with pytest.raises(InvalidRequest, match="bad_words"):
        bad_words_token_ids(byte_level(), ["fox", word])
