"""How often a client may do what costs it less than us. Pure: time is an argument."""

Rate = tuple[float, float]
"""So many at once, and so many a second from then on."""


class Bucket:
    """Counts one kind of event against its rate."""

    __slots__ = ("_at_s", "_left", "_rate")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._left = rate[0]
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """One event; False when it is one too many."""
        burst, per_s = self._rate
        self._left = min(burst, self._left + (now_s - self._at_s) * per_s) - 1
        self._at_s = now_s
        return self._left >= 0

    def give(self, count: float) -> None:
        """Allow so many more events, up to the burst."""
        self._left = min(self._rate[0], self._left + count)


class PingStrikes:
    """gRPC's rule for pings: one that comes too soon after another is a strike, and what we send
    of headers and data forgives all. More than `max_strikes` are too many, unless that is 0."""

    __slots__ = ("_interval_s", "_last_s", "_max_strikes", "_strikes")

    def __init__(self, interval_s: float, max_strikes: int) -> None:
        self._interval_s = interval_s
        self._max_strikes = max_strikes
        self._last_s: float | None = None
        self._strikes = 0

    def forgive(self) -> None:
        """Headers or data were sent."""
        self._last_s = None
        self._strikes = 0

    def ping(self, now_s: float) -> bool:
        """A ping; False when it is one too many."""
        last_s, self._last_s = self._last_s, now_s
        if last_s is not None and now_s - last_s < self._interval_s:
            self._strikes += 1
        return not self._max_strikes or self._strikes <= self._max_strikes
