"""How long a batch of so many rows will take, learned from those that ran. Pure.

Two decisions hang on it: whether a batch is short enough to run on the event loop's own thread, and
when to tell a refused caller to come back.
"""


class RunTimeEstimate:
    """Run time in nanoseconds by batch size, one figure for each power of two.

    A figure follows shorter runs at once and longer ones slowly: what makes a run longer than it
    must be (another thread, a cold cache) says nothing about the next.
    """

    RISE = 0.05
    MOST = 4
    """One run counts for at most so many times the figure it changes."""

    def __init__(self) -> None:
        self._run_ns: dict[int, float] = {}

    def observe(self, rows: int, run_ns: int) -> None:
        """Learn from a batch of `rows` that took `run_ns`."""
        bucket = rows.bit_length()
        known = self._run_ns.get(bucket)
        if known is None or run_ns <= known:
            self._run_ns[bucket] = run_ns
        else:
            self._run_ns[bucket] = known + self.RISE * (min(run_ns, self.MOST * known) - known)

    def predict(self, rows: int) -> float:
        """Nanoseconds for a batch of `rows`; infinite while nothing near it has been seen.

        A size never seen is scaled up from the nearest smaller one, or taken from the nearest
        larger one: both never too low for a cost that grows at most with the rows.
        """
        bucket = rows.bit_length()
        known = self._run_ns.get(bucket)
        if known is not None:
            return known
        larger = [seen for seen in self._run_ns if seen > bucket]
        if larger:
            return self._run_ns[min(larger)]
        if not self._run_ns:
            return float("inf")
        nearest = max(self._run_ns)
        return self._run_ns[nearest] * float(2 ** (bucket - nearest))
