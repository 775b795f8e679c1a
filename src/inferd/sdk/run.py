"""One call on its way through a model: tensors to arguments, a result to outcomes.

What is wrong with one request fails that request; the others go on without its rows.
"""

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import numpy as np

from inferd.errors import InferdError, InvalidRequest
from inferd.sdk.call import Call, Joined
from inferd.sdk.interface import Interface
from inferd.sdk.mismatch import Mismatch
from inferd.sdk.session import Session
from inferd.sdk.slots import Slot
from inferd.types.tensor import Array

SessionOf = Callable[[str], Session]


class Run:
    """`keywords` are for the model's first function; nothing is to be run where all `failed`.

    Raises InvalidRequest where the call as a whole is wrong.
    """

    def __init__(self, interface: Interface, call: Call, session_of: SessionOf) -> None:
        self._interface = interface
        self._rows = call.rows
        self.failed: dict[int, InferdError] = {}
        self.keywords: dict[str, Any] = {}
        arrays = call.arrays
        if len(arrays) != len(interface.slots):
            raise InvalidRequest(
                f"the model takes {len(interface.slots)} arguments, got {len(arrays)}"
            )
        self._check_rows(arrays)
        bad = self._decode(arrays, sum(call.rows))
        if bad:
            owners = [number for number, rows in enumerate(call.rows) for _ in range(rows)]
            for row, error in bad.items():
                self.failed.setdefault(owners[row], error)
            keep = np.array([owner not in self.failed for owner in owners])
            if keep.any():
                self._decode([None if a is None else a[keep] for a in arrays], int(keep.sum()))
        if interface.session:
            self.keywords[interface.session] = self._sessions(call.sessions, session_of)

    @property
    def alive(self) -> list[int]:
        """The numbers of the requests that run."""
        return [number for number in range(len(self._rows)) if number not in self.failed]

    def fail(self, error: InferdError) -> Joined:
        """What came of a run that failed as a whole."""
        return Joined([], {n: self.failed.get(n, error) for n in range(len(self._rows))})

    def finish(self, result: Any) -> Joined:
        """What came of a result; raises BackendError where it is wrong as a whole."""
        alive = self.alive if self.failed else range(len(self._rows))
        rows = [self._rows[number] for number in alive]
        arrays, bad = self._interface.results.encode(result, sum(rows))
        if not bad:
            return Joined(arrays, self.failed)
        owners = [number for number, count in zip(alive, rows, strict=True) for _ in range(count)]
        for row, error in bad.items():
            self.failed.setdefault(owners[row], error)
        keep = np.array([owner not in self.failed for owner in owners])
        return Joined([array[keep] for array in arrays] if keep.any() else [], self.failed)

    def part(self, item: Any) -> list[Array]:
        """One part of a stream; raises BackendError."""
        return self._interface.results.encode(item, 1)[0]

    def _check_rows(self, arrays: list[Array | None]) -> None:
        if not self._interface.batched:
            if self._rows != [1]:
                raise InvalidRequest("the model takes one request of one item at a time")
            return
        rows = sum(self._rows)
        for slot, array in zip(self._interface.slots, arrays, strict=True):
            if array is not None and (not array.ndim or array.shape[0] != rows):
                raise InvalidRequest(
                    f"argument '{slot.name}': expected a batch of {rows}, got shape "
                    f"{list(array.shape)}"
                )

    def _decode(self, arrays: list[Array | None], rows: int) -> dict[int, InferdError]:
        """Fill `keywords`; what is wrong is told by row."""
        bad: dict[int, InferdError] = {}
        for slot, array in zip(self._interface.slots, arrays, strict=True):
            if array is None:
                self._leave_out(slot, rows)
                continue
            try:
                self.keywords[slot.name] = slot.decode(array)
            except Mismatch as error:
                if slot.layout == "item":
                    bad.setdefault(0, InvalidRequest(error.of("argument", slot.name)))
                elif not _bad_rows(slot, array, bad):  # no row is to blame
                    raise InvalidRequest(error.of("argument", slot.name)) from None
        return bad

    def _leave_out(self, slot: Slot, rows: int) -> None:
        if slot.argument.default is None:
            raise InvalidRequest(f"argument '{slot.name}' is missing; the model needs it")
        if self._interface.batched:
            default = self._interface.defaults[slot.name]
            self.keywords[slot.name] = slot.decode(np.repeat(default, rows, axis=0))

    def _sessions(self, ids: list[str], session_of: SessionOf) -> Any:
        known = {id: session_of(id) for id in dict.fromkeys(ids) if id}
        ids = ids or [""] * len(self._rows)
        each = [known.get(id) or session_of("") for id in ids]
        if not self._interface.batched:
            return each[0]
        return list(chain.from_iterable(repeat(each[n], self._rows[n]) for n in self.alive))


def _bad_rows(slot: Slot, array: Array, bad: dict[int, InferdError]) -> bool:
    """Tell which rows are wrong by themselves; whether any is."""
    found = False
    for row in range(array.shape[0]):
        try:
            slot.decode(array[row : row + 1])
        except Mismatch as error:
            bad.setdefault(row, InvalidRequest(error.of("argument", slot.name)))
            found = True
    return found
