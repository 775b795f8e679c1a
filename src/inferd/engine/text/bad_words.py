"""Bad words as token ids: the ways in which a tokenizer begins a word."""

from collections.abc import Iterable

from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import InvalidRequest


def bad_words_token_ids(tokenizer: Tokenizer, words: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """Each word's tokens at the start of a text and behind a space, each spelling once.

    Raises InvalidRequest for a word that is empty or only space.
    """
    spellings: dict[tuple[int, ...], None] = {}
    for word in words:
        bare = word.lstrip()
        if not bare:
            raise InvalidRequest("bad_words must not contain an empty word; remove it")
        for text in (bare, " " + bare):
            spellings[tuple(tokenizer.encode(text, add_special_tokens=False))] = None
    spellings.pop((), None)  # characters that the tokenizer drops
    return tuple(spellings)
