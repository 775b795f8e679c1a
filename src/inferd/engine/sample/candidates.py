"""From one row of numbers to one token: the k largest, the nucleus, the draw. Pure functions.

No row is ever sorted whole: a bound from the maxima of many small groups leaves little more than
what is wanted, and only that is sorted. Of equal numbers the lower index goes first, everywhere.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]

_BELOW_ONE = 1 - 2**-53
_GROUP = 64
_BLOCK = 256
_NARROW = 256
"""The largest nucleus that is found by looking at the largest only."""


def largest(values: Floats, k: int) -> Indices:
    """Indices of the `k` largest of `values` [n] without NaN, rising; all where n is not more."""
    if k >= values.size:
        return np.arange(values.size)
    indices = np.flatnonzero(values >= _bound(values, k))
    extra = indices.size - k
    if extra == 0:
        return indices
    found = values[indices]
    kth = np.partition(found, extra)[extra]
    wanted = found > kth
    # Equal numbers fill what is left, the lowest indices first.
    equal = np.flatnonzero(found == kth)
    wanted[equal[: k - np.count_nonzero(wanted)]] = True
    chosen: Indices = indices[wanted]
    return chosen


def _bound(values: Floats, k: int) -> np.floating[Any] | float:
    """A number that at least `k` of `values` reach, and not many more.

    Each of k groups has a member as large as its maximum, so that the k-th largest of all maxima
    is such a number.
    """
    group = min(_GROUP, values.size // (4 * k))
    if group < 2:
        return -np.inf
    groups = values.size // group
    # The members of a group lie `groups` apart, which keeps the maximum a plain vector operation.
    maxima = values[: groups * group].reshape(group, groups).max(axis=0)
    bound: np.floating[Any] = np.partition(maxima, groups - k)[groups - k]
    return bound


def in_order(values: Floats) -> Indices:
    """Indices that put `values` in falling order."""
    return np.argsort(-values, kind="stable")


def nucleus(weights: NDArray[np.float32], share: float) -> Indices:
    """Indices, rising, of the fewest `weights` [n], none below 0, that hold `share` of their sum.

    Exact, and no slower for a nucleus of a hundred thousand than for one of a few thousand.
    """
    goal = share * float(weights.sum(dtype=np.float64))
    indices = largest(weights, _NARROW)
    found = weights[indices]
    if found.sum(dtype=np.float64) < goal and indices.size < weights.size:
        return _wide_nucleus(weights, share)
    order = in_order(found)
    cumulative = np.cumsum(found[order], dtype=np.float64)
    return np.sort(indices[order[: int(np.searchsorted(cumulative, goal)) + 1]])


def _wide_nucleus(weights: NDArray[np.float32], share: float) -> Indices:
    """By classes of size, so that only the class in which the nucleus ends has to be sorted."""
    # The bits of floats that are not negative rise as they do; the upper half makes a class.
    classes = weights.view(np.int32) >> 16
    mass = np.bincount(classes, weights)
    above = np.cumsum(mass[::-1])[::-1]  # of a class and all larger ones
    goal = share * above[0]
    last = int(np.flatnonzero(above >= goal)[-1])
    members = np.flatnonzero(classes == last)
    ends = members[in_order(weights[members])]
    cumulative = above[last] - mass[last] + np.cumsum(weights[ends], dtype=np.float64)
    kept = classes > last
    kept[ends[: int(np.searchsorted(cumulative, goal)) + 1]] = True
    return np.flatnonzero(kept)


def draw(weights: Floats, uniform: float) -> int:
    """The index at which `uniform`, in [0, 1), falls when `weights` [n] are laid end to end.

    Weights are not negative, their sum is above 0, and one of 0 is never drawn.
    """
    if weights.size <= 16 * _BLOCK:
        return _place(weights, uniform)[0]
    # First the block, then the place within it: the long row is added up once, not accumulated.
    blocks = np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK))
    block, rest = _place(blocks, uniform)
    start = block * _BLOCK
    return start + _place(weights[start : start + _BLOCK], rest)[0]


def _place(weights: Floats, uniform: float) -> tuple[int, float]:
    """The index, and how far into that weight `uniform` falls, in [0, 1)."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    target = uniform * float(cumulative[-1])
    index = int(np.searchsorted(cumulative, target, side="right"))
    before = float(cumulative[index - 1]) if index else 0.0
    return index, min((target - before) / float(weights[index]), _BELOW_ONE)
