"""What an ensemble is made of: steps, and the tensors that go between them.

Pure. It refuses to know whether they fit (`validation.py`), how a step runs, and what becomes of
one request (`flow.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from inferd.types.tensor import TensorSpec

Scope = tuple[int, ...]
"""The steps that stream and that a tensor comes behind, outermost first: it is there once for each
of their responses."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a step's model takes and gives; shapes have the batch dimension where there is one."""

    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A model that is run on tensors of the ensemble; `version` "" is the newest.

    `inputs` are those of the model that it is given, in the model's order, each with the name of
    the ensemble's tensor; `outputs` the names of those that are wanted, and of the tensors that
    they become. `mixed` says that only one of model and ensemble has a batch dimension.
    """

    index: int
    model: str
    version: str
    member: Member
    inputs: tuple[tuple[TensorSpec, str], ...]
    outputs: tuple[tuple[str, str], ...]
    mixed: bool
    scope: Scope = ()
    place: int = 0
    """Where it stands among the steps in their order."""

    @property
    def where(self) -> str:
        """How messages name it; they count from 1."""
        return f"step {self.index + 1} (model '{self.model}')"


@dataclass(frozen=True, slots=True)
class EnsembleGraph:
    """Steps in an order in which they can run, and what goes in and out; shapes of `inputs` and
    `outputs` have the batch dimension where there is one.

    `consumers` are the steps that take a tensor, `scope` is that of the answers: () is one answer.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]
    max_inflight: int
    scope: Scope
    consumers: dict[str, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether it has a model with a batch dimension where it has none itself, or the other way
        round."""
        return any(step.mixed for step in self.steps)

    @property
    def streams(self) -> bool:
        """Whether a request has any number of answers."""
        return bool(self.scope)

    def pruned(self, outputs: Sequence[int]) -> "EnsembleGraph":
        """What of it makes these of its outputs."""
        wanted = {self.outputs[index].name for index in outputs}
        steps = []
        for step in reversed(self.steps):
            if any(tensor in wanted for _, tensor in step.outputs):
                wanted.update(tensor for _, tensor in step.inputs)
                steps.append(step)
        kept = tuple(reversed(steps))
        streams = self.scope  # an answer is for each response of these, whatever is asked for
        if any(index not in [step.index for step in kept] for index in streams):
            return self
        chosen = tuple(self.outputs[index] for index in outputs)
        return replace(self, outputs=chosen, steps=kept, consumers=consumers_of(kept))


def fits(shape: Sequence[int], spec: Sequence[int]) -> bool:
    """Whether two shapes can be the same; -1 is any size."""
    return len(shape) == len(spec) and all(
        mine == theirs or mine < 0 or theirs < 0 for mine, theirs in zip(shape, spec, strict=True)
    )


def consumers_of(steps: Sequence[Step]) -> dict[str, tuple[Step, ...]]:
    """The steps that take each tensor."""
    takers: dict[str, list[Step]] = {}
    for step in steps:
        for tensor in dict.fromkeys(tensor for _, tensor in step.inputs):
            takers.setdefault(tensor, []).append(step)
    return {tensor: tuple(found) for tensor, found in takers.items()}
