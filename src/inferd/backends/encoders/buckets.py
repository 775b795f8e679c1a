"""Which texts of a batch run together: alike in length, so that little is padding. Pure."""

from collections.abc import Sequence


def buckets(lengths: Sequence[int], run_tokens: int, most_tokens: int) -> list[list[int]]:
    """Indices of `lengths` in groups whose sum of costs is the least there is.

    A group costs as much as its texts, each as long as its longest, and `run_tokens` for the run
    itself: what a run costs beside its tokens, in tokens. No group of several has more than
    `most_tokens`, which bounds the memory of a run. Groups fall in length.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    count = len(order)
    # best[i]: the least that the texts from i on can cost; end[i]: where the first group ends then.
    best = [0.0] * (count + 1)
    end = [count] * (count + 1)
    for start in range(count - 1, -1, -1):
        longest = lengths[order[start]]
        best[start] = float("inf")
        for stop in range(start + 1, count + 1):
            tokens = longest * (stop - start)
            if tokens > most_tokens and stop > start + 1:
                break
            cost = run_tokens + tokens + best[stop]
            if cost < best[start]:
                best[start], end[start] = cost, stop
    groups = []
    start = 0
    while start < count:
        groups.append(order[start : end[start]])
        start = end[start]
    return groups
