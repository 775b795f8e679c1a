"""Where a job's tensors are taken up and laid out: in shared memory, or in messages where they are
small. It refuses to know how a job is run.
"""

import sys
from typing import Final

from inferd.errors import InferdError
from inferd.types.datatype import DATATYPES, DataType
from inferd.types.tensor import Array
from inferd.workers.memory import Window, pack, pack_inline, unpack_all
from inferd.workers.messages import Done, Packed, Part, Run
from inferd.workers.runtime import Job, Outcome, Result, Runtime

_NOBODY_ELSE: Final = 2
"""References to a window's memory while no array of a job is left: the window, and who counts."""


class Desk:
    """The windows of each slot, made as they are needed."""

    def __init__(self, runtime: Runtime, memory: int, copies: bool = False) -> None:
        self._memory = memory
        self._windows: dict[int, tuple[Window, Window]] = {}
        self._copies = copies
        loaded = runtime.loaded()
        self._outputs = [DATATYPES[line.datatype] for line in loaded.outputs]
        explain = loaded.explain.outputs if loaded.explain else ()
        self._explained = [DATATYPES[argument.datatype] for argument in explain]

    def opened(self, run: Run) -> Job:
        """The job of a command."""
        inward, _ = self._of(run.slot)
        inputs = unpack_all(run.inputs, inward, self._copies)
        return Job(run.method, inputs, run.rows, run.sessions)

    def outward(self, slot: int) -> Window:
        """Where outputs of a slot's job go."""
        return self._of(slot)[1]

    def kept(self, run: Run) -> bool:
        """Whether the model holds on to inputs behind the job: their memory is not used again then,
        and from now on the model gets copies."""
        inward, _ = self._of(run.slot)
        kept = inward.map is not None and sys.getrefcount(inward.map) > _NOBODY_ELSE
        self._copies = self._copies or kept
        return kept

    def done(self, run: Run, result: Result) -> Done:
        """What is told of a job that has ended."""
        _, outward = self._of(run.slot)
        kinds = self._kinds(run)
        if not run.rows or not result or not isinstance(result[0], list | InferdError):
            return self._merged(run, kinds, [result], {}, outward)  # type: ignore[list-item]
        outcomes: list[Outcome] = result  # type: ignore[assignment]
        errors = {i: o for i, o in enumerate(outcomes) if isinstance(o, InferdError)}
        whole = [o for o in outcomes if not isinstance(o, InferdError)]
        if not whole:
            return Done(run.job, [], errors)
        return self._merged(run, kinds, whole, errors, outward)

    def part(self, run: Run, arrays: list[Array]) -> Part:
        """What is told of a part of a stream."""
        kinds = self._kinds(run)
        return Part(run.job, [pack_inline(k, a) for k, a in zip(kinds, arrays, strict=True)])

    def _merged(
        self, run: Run, kinds: list[DataType], outcomes: list[list[Array]],
        errors: dict[int, InferdError], window: Window,
    ) -> Done:  # fmt: skip
        columns = list(zip(*outcomes, strict=True))
        if not columns:  # the end of a stream
            return Done(run.job, [], errors)
        if all(_joins(column) for column in columns):
            packed = pack(list(zip(kinds, columns, strict=True)), window)
            return Done(run.job, packed, errors)
        each: list[list[Packed | None]] = [
            [pack_inline(kind, array) for kind, array in zip(kinds, arrays, strict=True)]
            for arrays in outcomes
        ]
        return Done(run.job, [], errors, each)

    def _kinds(self, run: Run) -> list[DataType]:
        return self._explained if run.method == "explain" else self._outputs

    def _of(self, slot: int) -> tuple[Window, Window]:
        windows = self._windows.get(slot)
        if windows is None:
            windows = self._windows[slot] = (
                Window(self._memory, slot, False),
                Window(self._memory, slot, True),
            )
        return windows


def _joins(column: tuple[Array, ...]) -> bool:
    first = column[0]
    return len(column) == 1 or all(
        array.ndim and array.shape[1:] == first.shape[1:] for array in column
    )
