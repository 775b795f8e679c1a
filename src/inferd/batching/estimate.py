"""How long a batch of so many rows will take, learned from those that ran. Pure.

Decisions that hang on it: whether a batch is short enough to run on the event loop's own thread,
how many rows are worth running together, and when to tell a refused caller to come back.
"""


class RunTimeEstimate:
    """Run time in nanoseconds by batch size, one figure for each power of two.

    A figure follows shorter runs at once and longer ones slowly: what makes a run longer than it
    must be (another thread, a cold cache) says nothing about the next.
    """

    RISE = 0.05
    MOST = 4
    """One run counts for at most so many times the figure it changes."""

    GAIN = 0.97
    """What twice the rows must bring the time of a row down to, to be worth the longer run."""

    def __init__(self) -> None:
        self._run_ns: dict[int, float] = {}
        self._exact_ns: dict[int, float] = {}
        """Of batches whose rows are a power of two: these can be compared row for row."""

    def observe(self, rows: int, run_ns: int) -> None:
        """Learn from a batch of `rows` that took `run_ns`."""
        bucket = rows.bit_length()
        self._follow(self._run_ns, bucket, run_ns)
        if not rows & (rows - 1):
            self._follow(self._exact_ns, bucket, run_ns)

    def _follow(self, figures: dict[int, float], bucket: int, run_ns: int) -> None:
        known = figures.get(bucket)
        if known is None or run_ns <= known:
            figures[bucket] = run_ns
        else:
            figures[bucket] = known + self.RISE * (min(run_ns, self.MOST * known) - known)

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

    def enough_rows(self, least_ns: int, first: int = 1) -> int | None:
        """The smallest power of two that runs for `least_ns` and gains little when doubled, or a
        request of `first` rows, which cannot be cut.

        A size of which nothing is known is the next to be tried; None while that is the first.
        """
        # Of requests that are no power of two, no batch is one: there, what is near has to do.
        known = self._run_ns if first & (first - 1) else self._exact_ns
        bucket = first.bit_length()
        while (run_ns := known.get(bucket)) is not None:
            doubled_ns = self._exact_ns.get(bucket + 1, 0.0)
            if run_ns >= least_ns and doubled_ns > self.GAIN * 2 * run_ns:
                break
            bucket += 1
        return 1 << (bucket - 1) if self._exact_ns else None
