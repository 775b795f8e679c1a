"""What the model is trained and judged on: the corpus as documents and chats, in a fixed order."""

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from examples.tiny_llama.chat import SECOND_TURN, conversation, document, greetings, render
from examples.tiny_llama.corpus import Entry, library_entries, reference, reference_entries

T = TypeVar("T")

SHARES = {
    "chats about the language and what is built in": (0.3, 0.8),
    "chats about the library": (0.5, 0.2),
    "chapters of the language reference": (0.2, 0.0),
}
"""How much of each kind, counted in characters: at first, and after EARLY of the training."""
EARLY = 0.4


class Texts:
    """Everything there is; what is trained on comes in an order that only the seed decides."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.chapters = reference()
        language, library = reference_entries(), library_entries()
        taken = {entry.name for entry in language}
        more = [entry for entry in library if entry.popular and entry.name not in taken]
        self.popular = [*language, *more, *greetings()]
        others = [entry for entry in library if not entry.popular]
        self.library = [entry for entry in others if not entry.held_out]
        self.held_out = [entry for entry in others if entry.held_out]
        sources = (
            self._chats(self.popular),
            self._chats(self.library),
            map(document, self._shuffled(self.chapters)),
        )
        self._sources: dict[str, Iterator[str]] = dict(zip(SHARES, sources, strict=True))
        self._given = dict.fromkeys(SHARES, 0)
        self._late = False

    def each(self) -> Iterator[str]:
        """Every text once, for the tokenizer."""
        yield from self.chapters
        for entry in chain(self.popular, self.library):
            yield from (entry.name, entry.text)

    def next(self, done: float) -> str:
        """The text to train on when `done` of the training is done, with its special tokens."""
        late = done >= EARLY
        if late is not self._late:
            self._late, self._given = late, dict.fromkeys(SHARES, 0)
        wanted = {kind: shares[late] for kind, shares in SHARES.items() if shares[late]}
        kind = min(wanted, key=lambda kind: self._given[kind] / wanted[kind])
        text = next(self._sources[kind])
        self._given[kind] += len(text)
        return text

    def held_out_chats(self) -> list[str]:
        """The entries that are never trained on, each in a chat."""
        rng = random.Random(0)
        return [render(conversation([entry], rng)) for entry in self.held_out]

    def _chats(self, entries: Sequence[Entry]) -> Iterator[str]:
        order = self._shuffled(entries)
        while True:
            asked = [next(order)]
            if self._rng.random() < SECOND_TURN:
                asked.append(next(order))
            yield render(conversation(asked, self._rng))

    def _shuffled(self, things: Sequence[T]) -> Iterator[T]:
        while True:
            yield from self._rng.sample(things, len(things))
