"""A Flow: what one request to an ensemble has come to: which tensors there are, which steps may run
with them, which answers are ready.

A step that streams makes a branch of each of its responses: what comes behind it runs once for each
branch, beside one another, and is answered in the order of the responses. Pure: it refuses to know
who runs a step.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from inferd.serving.ensembles.graph import EnsembleGraph, Scope, Step
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array


class Made(NamedTuple):
    """A tensor that is there, or, None, that was left out; `sequence` is whose it is, where the
    model that made it has said so."""

    array: Array | None
    sequence: SequenceStep | None = None


class Answer(NamedTuple):
    """Arrays in the order of the graph's outputs, None for one that no model gave; `sequence` is
    that of the answer."""

    arrays: list[Array | None]
    sequence: SequenceStep | None


class Branch:
    """Tensors of a request, or of one response within it that a step has streamed; `source` is the
    call that gave it."""

    __slots__ = (
        "answered", "begun", "children", "closed", "left", "owed", "parent", "scope", "source",
        "tensors",
    )  # fmt: skip

    def __init__(self, parent: "Branch | None", source: "Call | None", scope: Scope) -> None:
        self.parent = parent
        self.source = source
        self.scope = scope
        self.tensors: dict[str, Made] = {}
        self.begun: set[int] = set()
        self.left = 0
        """Steps of this branch that have not ended."""
        self.children: deque[Branch] = deque()
        self.answered = False
        self.owed = 0
        """Answers of it that its client has not taken yet."""
        self.closed = False

    def find(self, tensor: str) -> Made | None:
        """A tensor of this branch or of those around it; None where it is not made yet."""
        branch: Branch | None = self
        while branch is not None:
            made = branch.tensors.get(tensor)
            if made is not None:
                return made
            branch = branch.parent
        return None

    def below(self, scope: Scope) -> "Iterator[Branch]":
        """The branches of a scope, of this one and those in it."""
        if self.scope == scope:
            yield self
        elif len(self.scope) < len(scope):
            for child in self.children:
                yield from child.below(scope)


class Call:
    """A step that is to be run, with its inputs by the names of the step's model, and where in
    which sequence."""

    __slots__ = ("branch", "inputs", "sequence", "step")

    def __init__(
        self, step: Step, branch: Branch, inputs: dict[str, Array], sequence: SequenceStep | None
    ) -> None:
        self.step = step
        self.branch = branch
        self.inputs = inputs
        self.sequence = sequence


class Flow:
    """One request of a sequence or of none; `tensors` are the ensemble's inputs, without those that
    were left out."""

    def __init__(
        self, graph: EnsembleGraph, tensors: Mapping[str, Array],
        sequence: SequenceStep | None = None,
    ) -> None:  # fmt: skip
        self.graph = graph
        self._sequence = sequence
        self._ready: deque[Call] = deque()
        self._held: dict[int, deque[Call]] = {}
        self._running: dict[int, int] = {}
        self._answers: deque[Answer] = deque()
        self._untaken: deque[Branch] = deque()
        self._credits: list[Call] = []
        self.root = self._branch(None, None, ())
        self._put(self.root, {spec.name: Made(tensors.get(spec.name)) for spec in graph.inputs})

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing can."""
        return self.root.closed

    # -- what is to be done -------------------------------------------------------------------

    def calls(self) -> Iterator[Call]:
        """The steps to run now; each has to end."""
        most = self.graph.max_inflight
        while self._ready:
            call = self._ready.popleft()
            index = call.step.index
            running = self._running.get(index, 0)
            if most and running >= most:
                self._held.setdefault(index, deque()).append(call)
                continue
            self._running[index] = running + 1
            yield call

    def answers(self) -> Iterator[Answer]:
        """What can be answered now."""
        while self._answers:
            yield self._answers.popleft()

    def credits(self) -> list[Call]:
        """The calls of which one response has been dealt with, and taken by the client."""
        credits, self._credits = self._credits, []
        return credits

    # -- what has happened --------------------------------------------------------------------

    def arrived(
        self, call: Call, outputs: Sequence[Array | None], sequence: SequenceStep | None = None
    ) -> None:
        """A step has given its outputs, in its order, None for one that it did not give: a response
        of a stream, or all there is. With a `sequence` what comes of them is of that one."""
        step, branch = call.step, call.branch
        if step.member.streams:
            parent = branch
            branch = self._branch(parent, call, (*parent.scope, step.index))
            parent.children.append(branch)
        if sequence is None and call.sequence is not self._sequence:
            sequence = call.sequence
        made = zip(step.outputs, outputs, strict=True)
        self._put(branch, {name: Made(array, sequence) for (_, name), array in made})
        self._settle()

    def ended(self, call: Call) -> None:
        """A step has ended, behind all that it has given."""
        index = call.step.index
        self._running[index] -= 1
        held = self._held.get(index)
        if held:
            self._ready.append(held.popleft())
        call.branch.left -= 1
        self._settle()

    def taken(self, count: int) -> None:
        """The client has taken so many answers more."""
        for _ in range(min(count, len(self._untaken))):
            branch: Branch | None = self._untaken.popleft()
            while branch is not None:
                branch.owed -= 1
                self._credit(branch)
                branch = branch.parent

    # -- branches -----------------------------------------------------------------------------

    def _branch(self, parent: Branch | None, source: Call | None, scope: Scope) -> Branch:
        branch = Branch(parent, source, scope)
        branch.left = sum([step.scope == scope for step in self.graph.steps])
        return branch

    def _put(self, branch: Branch, tensors: dict[str, Made]) -> None:
        branch.tensors.update(tensors)
        for tensor in tensors:
            self._begin_with(tensor, branch)

    def _begin_with(self, tensor: str, branch: Branch) -> None:
        for step in self.graph.consumers.get(tensor, ()):
            for place in branch.below(step.scope):
                self._begin(step, place)

    def _begin(self, step: Step, branch: Branch) -> None:
        if step.index in branch.begun:
            return
        inputs = {}
        found = []
        for spec, tensor in step.inputs:
            made = branch.find(tensor)
            if made is None:
                return
            found.append(made)
            if made.array is not None:
                inputs[spec.name] = made.array
        branch.begun.add(step.index)
        self._ready.append(Call(step, branch, inputs, self._sequence_of(found)))

    def _sequence_of(self, tensors: Sequence[Made]) -> SequenceStep | None:
        """That of the first which has one, or else the request's."""
        return next((made.sequence for made in tensors if made.sequence), self._sequence)

    def _settle(self) -> None:
        """Answer what can be, in order, and close what has ended."""
        self._close(self.root)

    def _close(self, branch: Branch) -> None:
        if branch.scope == self.graph.scope and not branch.answered:
            found = [branch.find(spec.name) for spec in self.graph.outputs]
            made = [tensor for tensor in found if tensor is not None]
            if len(made) == len(found):
                branch.answered = True
                arrays = [tensor.array for tensor in made]
                self._answer(branch, Answer(arrays, self._sequence_of(made)))
        while branch.children:
            first = branch.children[0]
            self._close(first)
            if not first.closed:
                return
            branch.children.popleft()
        if not branch.left:
            branch.closed = True
            self._credit(branch)

    def _answer(self, branch: Branch, answer: Answer) -> None:
        self._answers.append(answer)
        if self.graph.streams:
            self._untaken.append(branch)
            around: Branch | None = branch
            while around is not None:
                around.owed += 1
                around = around.parent

    def _credit(self, branch: Branch) -> None:
        if branch.closed and not branch.owed and branch.source is not None:
            self._credits.append(branch.source)
            branch.source = None
