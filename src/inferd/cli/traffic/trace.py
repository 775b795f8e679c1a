"""A Trace: one request as its client saw it. Times are in seconds, on `time.perf_counter`."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """`due_s` is when the request should have been sent: what a late client lost counts as well.

    `gaps_s` are the times between events with tokens. Counts are the server's own, 0 where it does
    not say. A request that failed has an `error`.
    """

    due_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    end_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    events: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    error: str = ""

    @property
    def tokens(self) -> int:
        """Tokens that came: those that the server counted, or else one an event."""
        return self.output_tokens or self.events
