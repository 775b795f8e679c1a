"""When a worker that has ended is started again, and when there is no hope for a model. Pure: the
time is an argument, in seconds.
"""

from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 30.0

GOOD_LIFE_S: Final = 60.0
"""A worker that lived so long ended for a reason of its own: what was before is forgotten."""

HOPELESS: Final = 12
UNLOADED, IDLE, RUNNING = HOPELESS, HOPELESS // 3, 1
"""How much an end counts: of a worker that did not load, that had nothing to do, and that was
running requests, which may be to blame rather than the model."""


@dataclass
class Restarts:
    """One worker's lives. The first restart is at once, the next wait ever longer."""

    strikes: int = 0
    _ends: int = 0
    _born_s: float | None = None
    _answered: bool = False

    def born(self, now_s: float) -> None:
        """The worker has loaded."""
        self._born_s = now_s
        self._answered = False

    def answered(self) -> None:
        """The worker has answered a request."""
        self._answered = True

    def ended(self, now_s: float, running: bool) -> float:
        """The worker has ended, or has not loaded; seconds to wait before the next start."""
        good = self._born_s is not None and (self._answered or now_s - self._born_s >= GOOD_LIFE_S)
        if good:
            self.strikes = self._ends = 0
        self._ends += 1
        self.strikes += UNLOADED if self._born_s is None else RUNNING if running else IDLE
        self._born_s = None
        if self._ends == 1:
            return 0.0
        longest = FIRST_DELAY_S if running else LONGEST_DELAY_S
        return min(FIRST_DELAY_S * 2.0 ** (self._ends - 2), longest)

    @property
    def hopeless(self) -> bool:
        """Whether the model cannot be kept alive, as far as can be seen."""
        return self.strikes >= HOPELESS
