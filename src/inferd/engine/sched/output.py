"""What runs in a step, and what came to an end with it: values that the scheduler hands out."""

from dataclasses import dataclass, field

from inferd.engine.sched.sequence import Sequence
from inferd.engine.sched.step_time import StepLoad
from inferd.types.generation import FinishReason


@dataclass(slots=True, eq=False)
class ScheduledSequence:
    """Tokens `start` to `start + num_tokens` of a sequence are computed in this step.

    `samples` says that the last of them is the last known one, so that its logits choose the next.
    """

    sequence: Sequence
    num_tokens: int
    start: int
    samples: bool


@dataclass(slots=True, eq=False)
class SchedulerOutput:
    """One step: all that a worker sees. Nothing in `sequences` is nothing to run."""

    sequences: list[ScheduledSequence] = field(default_factory=list)
    load: StepLoad = field(default_factory=StepLoad)
    preempted: list[int] = field(default_factory=list)
    """Ids of sequences that lost their blocks, and wait again."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed in this step."""
        return self.load.prefill_tokens + self.load.decode_rows


@dataclass(slots=True, eq=False)
class Finished:
    """A sequence that ended with a step; its blocks have been given back."""

    sequence: Sequence
    reason: FinishReason
    stop_reason: str | int | None = None
