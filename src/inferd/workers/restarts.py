"""When a worker that has ended is started again. Pure: the time is an argument, in seconds."""

from dataclasses import dataclass, field
from typing import Final

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 30.0

GOOD_LIFE_S: Final = 60.0
"""A worker that lived so long ended for a reason of its own: what was before is forgotten."""

TOLERATED: Final = 3
"""Short lives in a row after which a model counts as one that cannot be kept alive."""


@dataclass
class Restarts:
    """One worker's lives. The first restart is at once, the next wait ever longer."""

    short_lives: int = 0
    _born_s: float | None = field(default=None)

    def born(self, now_s: float) -> None:
        """The worker has loaded."""
        self._born_s = now_s

    def ended(self, now_s: float) -> float:
        """The worker has ended, or has not loaded; seconds to wait before the next start."""
        loaded = self._born_s is not None
        if self._born_s is not None and now_s - self._born_s >= GOOD_LIFE_S:
            self.short_lives = 0
        self._born_s = None
        self.short_lives += 1 if loaded else TOLERATED
        waits = self.short_lives - 2
        return 0.0 if waits < 0 else min(FIRST_DELAY_S * 2.0**waits, LONGEST_DELAY_S)

    @property
    def hopeless(self) -> bool:
        """Whether the model cannot be kept alive, as far as can be seen."""
        return self.short_lives >= TOLERATED
