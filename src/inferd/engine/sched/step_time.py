"""How long a step takes, learned from the steps that ran. Pure.

A step's seconds are a sum: so much for any step, so much for each unit of what is in it. The fit is
least squares of the relative error, with forgetting and no negative coefficients.
"""

import math
from operator import mul
from typing import NamedTuple


class StepLoad(NamedTuple):
    """What is in a step.

    `prefill_pairs` are the pairs of a prefill token and a token that it attends to, which is what
    makes the same chunk slower at the end of a long prompt. `decode_rows` compute one token each,
    and read `kv_tokens` cached tokens together.
    """

    prefill_tokens: int = 0
    prefill_pairs: int = 0
    decode_rows: int = 0
    kv_tokens: int = 0


class StepCost(NamedTuple):
    """Seconds of any step, and of each unit of its load."""

    step_s: float = 20e-3
    prefill_token_s: float = 1e-3
    prefill_pair_s: float = 1e-7
    decode_row_s: float = 0.5e-3
    kv_token_s: float = 0.5e-6


def prefill_pairs(start: int, num_tokens: int) -> int:
    """Pairs of `num_tokens` prefill tokens that follow `start` tokens of their sequence."""
    return num_tokens * start + num_tokens * (num_tokens + 1) // 2


class StepTime:
    """Seconds of a step from its load.

    Of the prior only the proportions count once a step has been seen: that one sets its scale. What
    steps do not contain for long keeps its last figure.
    """

    FORGET = 0.95
    """What a step counts for, after another one was seen."""
    WARM_UP = 8
    """Steps that are believed whatever they say."""
    LEAST_DOUBT = 0.1
    """A relative error up to this is always believed."""
    DOUBT = 4.0
    """So many times the usual relative error is believed of one step; one that goes on being
    different becomes the usual one within some ten steps."""
    PRIOR_WEIGHT = 1e-4
    """What the prior counts for, beside a typical step's 1."""
    LEAST_WEIGHT = 1e-5
    """A coefficient stays as it is while what was seen of it weighs less."""
    SWEEPS = 10
    UNITS = (1.0, 256.0, 256.0 * 512.0, 16.0, 16.0 * 512.0)
    """A typical load, to bring all coefficients to one order of size."""
    UNLIMITED = 1 << 40
    """So many tokens fit where they cost nothing."""

    def __init__(self, prior: StepCost | None = None) -> None:
        self.num_observed = 0
        self._cost: list[float] = list(map(mul, prior or StepCost(), self.UNITS))
        size = len(self._cost)
        self._squares = [[0.0] * size for _ in range(size)]
        self._products = [0.0] * size
        self._least_weight = 0.0
        self._usual_error = 1.0

    @property
    def cost(self) -> StepCost:
        """The coefficients as they are now."""
        return StepCost(*[cost / unit for cost, unit in zip(self._cost, self.UNITS, strict=True)])

    def predict(self, load: StepLoad) -> float:
        """Seconds that a step will take."""
        return math.fsum(map(mul, self._cost, self._units(load)))

    def predict_prefill(self, start: int, num_tokens: int) -> float:
        """Seconds that `num_tokens` prefill tokens behind `start` others add to a step."""
        token_s, pair_s = self._cost[1] / self.UNITS[1], self._cost[2] / self.UNITS[2]
        return token_s * num_tokens + pair_s * prefill_pairs(start, num_tokens)

    def prefill_tokens_in(self, seconds: float, start: int) -> int:
        """How many prefill tokens behind `start` others a step can take for `seconds` more."""
        if seconds <= 0.0:
            return 0
        if seconds == math.inf:
            return self.UNLIMITED
        pair_s = self._cost[2] / self.UNITS[2]
        token_s = self._cost[1] / self.UNITS[1] + pair_s * (start + 0.5)
        # The root of pair_s / 2 * n^2 + token_s * n = seconds, in the form that no 0 upsets.
        divisor = token_s + math.sqrt(token_s * token_s + 2.0 * pair_s * seconds)
        return int(2.0 * seconds / divisor) if divisor > 1e-12 * seconds else self.UNLIMITED

    def observe(self, load: StepLoad, seconds: float) -> None:
        """Learn from a step that took `seconds`."""
        if seconds <= 0.0:
            return
        row = self._units(load)
        expected = sum(map(mul, self._cost, row))
        if not self.num_observed:
            self._begin(seconds / expected if expected > 0.0 else 1.0, seconds)
            expected = seconds
        self.num_observed += 1
        seconds = self._believable(seconds, expected)
        weight = max(seconds, expected) ** -2
        forget, products = self.FORGET, self._products
        for i, (x, squares) in enumerate(zip(row, self._squares, strict=True)):
            scaled = weight * x
            products[i] = forget * products[i] + scaled * seconds
            for j, y in enumerate(row):
                squares[j] = forget * squares[j] + scaled * y
        self._solve()

    def _units(self, load: StepLoad) -> tuple[float, ...]:
        _, tokens, pairs, rows, kv_tokens = self.UNITS
        return (1.0, load[0] / tokens, load[1] / pairs, load[2] / rows, load[3] / kv_tokens)

    def _begin(self, scale: float, seconds: float) -> None:
        weight = self.PRIOR_WEIGHT / (seconds * seconds)
        self._least_weight = self.LEAST_WEIGHT / (seconds * seconds)
        for i in range(len(self._cost)):
            self._cost[i] *= scale
            self._squares[i][i] = weight
            self._products[i] = weight * self._cost[i]

    def _believable(self, seconds: float, expected: float) -> float:
        """The seconds of a step, brought as near to the expected as one step may differ."""
        if expected <= 0.0:
            return seconds
        error = seconds / expected - 1.0
        most = max(self.LEAST_DOUBT, self.DOUBT * self._usual_error)
        self._usual_error += 0.1 * (min(abs(error), 2.0 * most) - self._usual_error)
        if self.num_observed <= self.WARM_UP or abs(error) <= most:
            return seconds
        return expected * (1.0 + math.copysign(most, error))

    def _solve(self) -> None:
        """Coordinate descent from the last solution: what the data leaves open stays put."""
        cost = self._cost
        for _ in range(self.SWEEPS):
            for i, (squares, product) in enumerate(zip(self._squares, self._products, strict=True)):
                square = squares[i]
                if square > self._least_weight:
                    others = sum(map(mul, squares, cost)) - square * cost[i]
                    cost[i] = max(0.0, (product - others) / square)
