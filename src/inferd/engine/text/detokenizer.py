"""Tokens to text while they come: what is certain at once, what is not when it becomes so.

The pieces joined are what `Tokenizer.decode` makes of all tokens together, however they were split.
The one exception: bytes that are not UTF-8, of tokenizers that fall back to bytes, show as U+FFFD
each and leave the characters before them alone, where `decode` spoils those too. It refuses to know
stop strings.
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

from inferd.engine.text.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"


class Detokenizer(Protocol):
    """The text of one sequence, as it grows. The work for a token does not grow with the text."""

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that has become certain with these tokens; never part of a character."""

    def flush(self) -> str:
        """What is left when no more tokens come: U+FFFD for a character that is not complete."""


def create_detokenizer(
    tokenizer: Tokenizer,
    skip_special_tokens: bool = True,
    prompt_token_ids: Sequence[int] = (),
) -> Detokenizer:
    """A detokenizer for one sequence.

    With `prompt_token_ids` its text continues the prompt's, so that a space between them is kept;
    without, it stands alone, as `Tokenizer.decode` has it.
    """
    skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
    if tokenizer.byte_pieces is not None:
        return _ByteDetokenizer(tokenizer.byte_pieces, skipped, prompt_token_ids)
    return _PairDetokenizer(tokenizer, skipped, prompt_token_ids)


class _ByteDetokenizer:
    """For byte-level tokenizers: the text is the tokens' bytes, decoded as a stream."""

    def __init__(
        self, pieces: dict[int, bytes], skipped: frozenset[int], prompt_token_ids: Sequence[int]
    ) -> None:
        self._pieces = pieces
        self._skipped = skipped
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.push(_last(prompt_token_ids, 4, skipped))  # a character may begin in the prompt

    def push(self, token_ids: Sequence[int]) -> str:
        pieces, skipped = self._pieces, self._skipped
        return self._decoder.decode(b"".join([pieces[i] for i in token_ids if i not in skipped]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class _PairDetokenizer:
    """For all other tokenizers: a token's text is what it adds to that of the one before it,
    because decoders treat the first token of a text in their own way. Tokens that stand for one
    byte are gathered until they make a character."""

    def __init__(
        self, tokenizer: Tokenizer, skipped: frozenset[int], prompt_token_ids: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._before: list[int] = []
        self._bytes = bytearray()
        self.push(_last(prompt_token_ids, 4, skipped))

    def push(self, token_ids: Sequence[int]) -> str:
        tokenizer = self._tokenizer
        parts = []
        for token_id in token_ids:
            if token_id in self._skipped or tokenizer.token(token_id) is None:
                continue
            byte = tokenizer.byte(token_id)
            if byte is not None:
                parts.append(self._push_byte(byte))
            else:
                before = tokenizer.decode(self._before, skip_special_tokens=False)
                both = tokenizer.decode([*self._before, token_id], skip_special_tokens=False)
                parts += [self.flush(), both[len(before) :]]
            self._before = [token_id]
        return "".join(parts)

    def flush(self) -> str:
        spoiled = _REPLACEMENT * len(self._bytes)
        self._bytes.clear()
        return spoiled

    def _push_byte(self, byte: int) -> str:
        self._bytes.append(byte)
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                return ""
            # What came before cannot become a character any more; this byte may begin one.
            self._bytes.pop()
            if not self._bytes:
                return _REPLACEMENT
            return self.flush() + self._push_byte(byte)
        self._bytes.clear()
        return text


def _last(token_ids: Sequence[int], count: int, skipped: frozenset[int]) -> list[int]:
    """The last `count` of `token_ids` that are not skipped, in their order."""
    found: list[int] = []
    for token_id in reversed(token_ids):
        if len(found) == count:
            break
        if token_id not in skipped:
            found.append(token_id)
    return found[::-1]
