"""What is asked: prompts of an exact length that share nothing, or those of a file.

Pure, apart from reading the file. The tokens that prompts are made of come from the server's own
tokenizer, so that every id exists.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from inferd.errors import InferdError

Prompt = str | list[int]

SAMPLE = (
    "The quick brown fox jumps over the lazy dog while seven wise owls read old books about the "
    "sea, its ships and the long roads of trade; nobody knows how many letters were written, by "
    "whom, or when they will be found again under the stones of that small, cold northern town."
)
"""A text whose tokens are as good as any."""


def of_tokens(
    known: Sequence[int], count: int, length: int, shared: int = 0, seed: int = 0
) -> list[Prompt]:
    """`count` prompts of `length` tokens out of `known`, the first `shared` alike in all."""
    rng = random.Random(seed)
    prefix = rng.choices(known, k=min(shared, length))
    return [prefix + rng.choices(known, k=length - len(prefix)) for _ in range(count)]


def of_words(count: int, length: int, shared: int = 0, seed: int = 0) -> list[Prompt]:
    """The same in words, for a server whose tokens nobody knows: about one token each."""
    words = SAMPLE.split()
    rng = random.Random(seed)
    prefix = rng.choices(words, k=min(shared, length))
    each = (prefix + rng.choices(words, k=length - len(prefix)) for _ in range(count))
    return [" ".join(chosen) for chosen in each]


def of_file(path: Path, count: int) -> list[Prompt]:
    """A prompt a line, from the first again when there are too few: text, or JSON (a string, or an
    object with `prompt`). Raises InferdError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InferdError(f"{path}: cannot be read: {error}") from None
    prompts = [_prompt(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise InferdError(f"{path}: has no prompts; write one a line")
    return [prompts[n % len(prompts)] for n in range(count)]


def _prompt(line: str, where: str) -> Prompt:
    if line.lstrip()[:1] not in ('"', "{"):
        return line
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InferdError(f"{where}: not JSON: {error}") from None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise InferdError(f'{where}: has no text; write {{"prompt": "..."}}')
    return prompt
