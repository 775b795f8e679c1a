"""Stop strings in text that comes in pieces: found wherever the pieces are cut, and never shown in
part.

It refuses to know tokens. Time and memory per character do not grow with what came before, nor with
the length of the stop strings.
"""

from collections.abc import Sequence


class _Needle:
    """One stop string, and how much of it the text so far ends with (Knuth, Morris and Pratt)."""

    __slots__ = ("_fallback", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._fallback = [0]
        """By length of a match, the length of the next shorter one that the same text ends with."""
        length = 0
        for char in text[1:]:
            length = self._extend(length, char)
            self._fallback.append(length)

    def _extend(self, matched: int, char: str) -> int:
        while matched and self.text[matched] != char:
            matched = self._fallback[matched - 1]
        return matched + (self.text[matched] == char)

    def push(self, char: str) -> bool:
        """Take one character; whether the stop string is complete."""
        self.matched = self._extend(self.matched, char)
        return self.matched == len(self.text)


class StopMatcher:
    """Looks for stop strings in one sequence's text.

    The first to be complete wins; of several complete at one character, the longest. With
    `include` the text is cut behind it, otherwise before it.
    """

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._needles = [_Needle(stop) for stop in stops]
        self._include = include
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take more text. Returns what is certain to be shown, and the stop string if one was
        found; nothing must be pushed after that."""
        if not self._needles:
            return text, None
        pending = self._held + text
        for end, char in enumerate(text, len(self._held) + 1):
            found = [needle.text for needle in self._needles if needle.push(char)]
            if found:
                stop = max(found, key=len)
                self._held = ""
                return pending[: end if self._include else end - len(stop)], stop
        certain = len(pending) - max(needle.matched for needle in self._needles)
        self._held = pending[certain:]
        return pending[:certain], None

    def flush(self) -> str:
        """What is still held back, once no more text will come."""
        held, self._held = self._held, ""
        return held
