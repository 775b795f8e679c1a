"""What is left of a step for prefill, in tokens and in seconds."""

import math

from inferd.engine.sched.step_time import StepTime


class PrefillBudget:
    """`seconds` is infinite while nobody waits for a token.

    A chunk that ends no prompt has `least` tokens or more; the first one gets them even if the
    seconds do not suffice, so that prompts always get on.
    """

    __slots__ = ("_first", "_least", "_step_time", "seconds", "tokens")

    def __init__(self, step_time: StepTime, tokens: int, seconds: float, least: int) -> None:
        self.tokens = tokens
        self.seconds = seconds
        self._step_time = step_time
        self._least = least
        self._first = True

    def chunk(self, start: int, num_left: int) -> int:
        """How many of `num_left` tokens behind `start` others to compute; 0 when none fit."""
        most = min(num_left, self.tokens)
        if self.seconds == math.inf:
            return most
        least = min(most, self._least)
        fitting = self._step_time.prefill_tokens_in(self.seconds, start)
        if fitting < least:
            return least if self._first else 0
        return min(most, fitting)

    def spend(self, start: int, num_tokens: int) -> None:
        """Take a chunk out of what is left."""
        if num_tokens:
            self.tokens -= num_tokens
            self.seconds -= self._step_time.predict_prefill(start, num_tokens)
            self._first = False

    def copy(self) -> "PrefillBudget":
        """The same budget, unspent, to try something out on."""
        return PrefillBudget(self._step_time, self.tokens, self.seconds, self._least)
