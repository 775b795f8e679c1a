"""What every engine is asked, in tokens, and what is read off: the same for all.

An engine's own program (`engines/`) turns a Task into its calls and gives a Timing back.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SEED = 5
LARGEST_TOKEN = 100_000
"""Tokens that every engine's vocabulary has."""
STREAMS = 32
"""Sequences that an engine is told to run at once, at most."""
LONGEST = 4608
"""Tokens of the longest sequence that it is told to expect."""


@dataclass(frozen=True)
class Task:
    """`streams` prompts of `prompt` tokens, each followed by `output` greedy tokens, at once.

    `again` asks the same prompts a second time. `intruder` is a prompt of so many tokens that
    comes when the streams are under way; then the gaps between their tokens are what counts.
    """

    name: str
    streams: int
    prompt: int
    output: int
    again: bool = False
    intruder: int = 0

    def prompts(self, round: int) -> list[list[int]]:
        """Different in each round, so that no round finds another's in a cache."""
        random = np.random.default_rng([SEED, round, self.streams, self.prompt])
        return random.integers(1, LARGEST_TOKEN, (self.streams, self.prompt)).tolist()


@dataclass
class Timing:
    """Seconds of each output token of each stream since the start, and of the second asking."""

    tokens: list[list[float]]
    again: list[list[float]] | None = None

    def figures(self, task: Task) -> dict[str, Any]:
        """Output tokens a second in all, the decode rate once all streams run, the first token's
        seconds (of the stream that waits longest), and the 99th percentile of gaps in ms."""
        count = sum(len(stream) for stream in self.tokens)
        end = max(stream[-1] for stream in self.tokens)
        found: dict[str, Any] = {
            "output_tokens_per_second": count / end,
            "first_token_s": max(stream[0] for stream in self.tokens),
        }
        start = max(stream[0] for stream in self.tokens)
        later = sum(t > start for stream in self.tokens for t in stream)
        if later:
            found["decode_tokens_per_second"] = later / (end - start)
        gaps = np.concatenate([np.diff(stream) for stream in self.tokens])
        if len(gaps):
            found["gap_p99_ms"] = float(np.percentile(gaps, 99) * 1000)
        if self.again:
            found["first_token_again_s"] = max(stream[0] for stream in self.again)
        return found | {"task": asdict(task)}


TASKS = {
    task.name: task
    for task in (
        Task("one", streams=1, prompt=32, output=64),
        Task("many", streams=STREAMS, prompt=128, output=64),
        Task("first", streams=1, prompt=1024, output=2, again=True),
        Task("mixed", streams=8, prompt=128, output=160, intruder=4000),
    )
}
