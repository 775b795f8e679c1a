"""What the server adds to the inputs of a sequence's request, control values and states, and what
it takes out of the outputs. Pure numpy.
"""

from collections.abc import Hashable
from collections.abc import Sequence as Sequences
from dataclasses import dataclass

import numpy as np

from inferd.batching.sequences.sequence import NOWHERE, Sequence, step_of
from inferd.config.sequence_tensors import Control
from inferd.errors import BackendError, InvalidRequest
from inferd.types.datatype import BYTES
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array, TensorSpec

VIEW_LIMIT_BYTES = 1 << 18
"""A state out of a batch that gave more is copied: as a view of it, it would keep all of that for
as long as the sequence lives."""

Column = list[Array]
"""The arrays of one input, which joined along the first dimension are that of a batch."""


@dataclass(frozen=True, slots=True)
class State:
    """A state: what it is at the start of a sequence, and which output gives the next one. Shapes
    include the batch dimension where the model has one."""

    initial: Array
    output: int
    spec: TensorSpec


class Filling:
    """The inputs behind those that clients send: controls, then states."""

    def __init__(
        self, controls: tuple[Control, ...] = (), states: tuple[State, ...] = (),
        batched: bool = True,
    ) -> None:  # fmt: skip
        self.states = states
        self._controls = controls
        self._batched = batched
        self._corrid = next((c.datatype for c in controls if c.kind == "CORRID"), None)
        self.free = any(-1 in state.spec.shape[batched:] for state in states)
        """Whether states may have different shapes, and requests then cannot share a batch."""
        self.mergeable = bool(states) and batched and not self.free
        """Whether all requests may share a batch, and running one in vain changes nothing."""

    def corrid(self, id: int | str, model: str) -> int | bytes:
        """A correlation id as the model is told it; raises InvalidRequest where it cannot be."""
        datatype = self._corrid
        if datatype is BYTES:
            return str(id).encode()
        if isinstance(id, int):  # of a narrower type, the model gets the low bits, as in Triton
            return int(np.array(id, np.uint64).astype(datatype.dtype)) if datatype else id
        if datatype is None:
            return 0
        raise InvalidRequest(
            f"the correlation ID of model '{model}' is {datatype.config_name}: send an integer as "
            f"sequence_id, not '{id}'"
        )

    def shapes(self, sequence: Sequence) -> Hashable:
        """The shapes of a sequence's states, for the first of its requests that waits."""
        return tuple(a.shape for a in self._states(sequence, step_of(sequence.first).start))

    def columns(self, rows: list[Sequence | None]) -> list[Column]:
        """The inputs of a batch in the model's order, for the requests that these sequences run.
        None is a row without: its READY is no, and all else is as large as another's, and zero."""
        running = [row for row in rows if row is not None]
        items = [row.running for row in running if row.running is not None]
        columns: list[Column] = [
            list(column) for column in zip(*[item.arrays for item in items], strict=True)
        ]
        steps: list[SequenceStep | None] = [step_of(item) for item in items]
        if len(running) < len(rows):
            columns = [_spread(rows, column) for column in columns]
            given = iter(steps)
            steps = [None if row is None else next(given) for row in rows]
        columns.extend(self.added(rows, steps))
        return columns

    def added(
        self, rows: Sequences[Sequence | None], steps: Sequences[SequenceStep | None]
    ) -> list[Column]:
        """The inputs that clients do not send, for requests that are these steps of sequences; None
        is a row without."""
        columns = [[self._control(control, rows, steps)] for control in self._controls]
        return [*columns, *self._state_columns(rows, steps)] if self.states else columns

    def merged(self, sequences: Sequences[Sequence], steps: Sequences[SequenceStep]) -> list[Array]:
        """`added`, as arrays."""
        return [c[0] if len(c) == 1 else np.concatenate(c) for c in self.added(sequences, steps)]

    def _control(
        self, control: Control, rows: Sequences[Sequence | None],
        steps: Sequences[SequenceStep | None],
    ) -> Array:  # fmt: skip
        no, yes = control.no, control.yes
        values: list[object]
        if control.kind == "START":
            values = [yes if step is not None and step.start else no for step in steps]
        elif control.kind == "END":
            values = [yes if step is not None and step.end else no for step in steps]
        elif control.kind == "READY":
            values = [no if step is None else yes for step in steps]
        else:
            nobody = b"" if control.datatype is BYTES else 0
            values = [nobody if row is None else row.corrid for row in rows]
        array: Array = np.array(values, control.datatype.dtype)
        return array.reshape(-1, 1) if self._batched else array

    def _state_columns(
        self, rows: Sequences[Sequence | None], steps: Sequences[SequenceStep | None]
    ) -> list[Column]:
        spans: list[_Span | None] = []
        """Rows that lie behind one another in what some batch gave are taken out at once."""
        initial = [state.initial for state in self.states]
        for row, step in zip(rows, steps, strict=True):
            if row is None or step is None:
                spans.append(None)
            elif step.start or row.states is None:
                spans.append((initial, NOWHERE, NOWHERE))
            else:
                states, at, last = row.states, row.row, spans[-1] if spans else None
                if at != NOWHERE and last is not None and last[2] == at and last[0] is states:
                    spans[-1] = (states, last[1], at + 1)
                else:
                    spans.append((states, at, at + 1))
        return [_taken(spans, place) for place in range(len(self.states))]

    def _states(self, sequence: Sequence, start: bool) -> list[Array]:
        states, row = sequence.states, sequence.row
        if start or states is None:
            return [state.initial for state in self.states]
        return states if row == NOWHERE else [array[row : row + 1] for array in states]

    def keep(
        self, rows: Sequences[Sequence | None], parts: Sequences[Sequences[Array | None]],
        whole: list[Array] | None,
    ) -> None:  # fmt: skip
        """Take the states of these sequences out of what their batch gave, merged in `whole`, or
        row by row in `parts`; None is a row without a request. Raises BackendError for what cannot
        be a state; then nothing is kept."""
        if not self.states or not rows:
            return
        if whole is None:
            each = [self._checked(part, 1) for part in parts]
            for sequence, states in zip(rows, each, strict=True):
                if sequence is not None:
                    sequence.states, sequence.row = states, NOWHERE
            return
        kept = self._checked(whole, len(rows))
        views = len(rows) == 1 or sum([array.nbytes for array in kept]) <= VIEW_LIMIT_BYTES
        for row, sequence in enumerate(rows):
            if sequence is None:
                continue
            if views:
                sequence.states, sequence.row = kept, row if self._batched else NOWHERE
            else:
                sequence.states = [array[row : row + 1].copy() for array in kept]
                sequence.row = NOWHERE

    def _checked(self, outputs: Sequences[Array | None], rows: int) -> list[Array]:
        """The states among the outputs of so many rows."""
        states = []
        for state in self.states:
            array, spec = outputs[state.output], state.spec
            expected = (rows, *spec.shape[1:]) if self._batched else spec.shape
            if array is None:
                raise BackendError(f"the model did not return state output '{spec.name}'")
            if len(array.shape) != len(expected) or any(
                theirs not in (-1, ours) for ours, theirs in zip(array.shape, expected, strict=True)
            ):
                raise BackendError(
                    f"the model returned shape {list(array.shape)} in state output '{spec.name}', "
                    f"expected {list(expected)}"
                )
            states.append(array)
        return states


_Span = tuple[list[Array], int, int]
"""Arrays of states, and from which row on up to which they are meant; from NOWHERE is all."""


def _taken(spans: list[_Span | None], place: int) -> Column:
    """One state of the rows of a batch; None is a row without a request."""
    column: list[Array | None] = []
    for span in spans:
        if span is None:
            column.append(None)
            continue
        array, (_, start, stop) = span[0][place], span
        whole = start == NOWHERE or (start == 0 and stop == len(array))
        column.append(array if whole else array[start:stop])
    given = [array for array in column if array is not None]
    if len(given) == len(column):
        return given
    nothing = _nothing_like(given[0][:1])
    return [nothing if array is None else array for array in column]


def _nothing_like(array: Array) -> Array:
    nothing = np.zeros_like(array)
    if nothing.dtype == object:
        nothing.fill(b"")
    return nothing


def _spread(rows: Sequences[Sequence | None], given: Column) -> Column:
    """The arrays of the rows that have one, and zeros, as large, for the others."""
    if len(given) == len(rows):
        return given
    nothing = _nothing_like(given[0])
    arrays = iter(given)
    return [nothing if row is None else next(arrays) for row in rows]
