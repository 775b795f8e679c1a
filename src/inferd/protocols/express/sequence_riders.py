"""Requests of sequences in the express lane: those of one turn are decoded together. Where none of
them has to wait they run together at once; otherwise each waits behind those of its own sequence,
and is answered together with the riders among whom it has run.
"""

import logging
from collections.abc import Sequence

from inferd.batching.queue import OnDoneTogether, QueuedRequest
from inferd.batching.sequences.batcher import SequenceBatcher
from inferd.errors import InferdError
from inferd.protocols.express.rider import MAX_BODY_BYTES, Rider, StepForm, answer_all, walk
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceRequest, SequenceStep
from inferd.types.tensor import Array

_log = logging.getLogger("inferd.express")


class SteppedRequest(QueuedRequest, eq=False):
    """A rider that waits behind those of its sequence."""

    rider: Rider | None = None


class SequenceRiders:
    """The riders for one model of sequences. They never overtake those that came before them: one
    that cannot ride is sent on its way before any behind it."""

    def __init__(self, served: ServedModel, sequences: SequenceBatcher, form: StepForm) -> None:
        self._served = served
        self._sequences = sequences
        self._form = form
        self._together: OnDoneTogether = self._answer  # one object, by which they know one another

    def ride(self, waiting: list[Rider], arrival_ns: int) -> None:
        """Answer or queue each of the riders."""
        form, limit = self._form, self._served.description.max_batch_size
        group: list[Rider] = []
        rows: list[object] = []
        steps: list[SequenceStep] = []
        for rider in waiting:
            if rider.left:
                continue
            body = rider.body
            try:
                if len(body) > MAX_BODY_BYTES:
                    raise ValueError
                row, step = form.step(body)
            except (ValueError, RecursionError):
                self._board(group, rows, steps, arrival_ns)
                group, rows, steps = [], [], []
                walk([rider])
                continue
            group.append(rider)
            rows.append(row)
            steps.append(step)
            if len(group) == limit:
                self._board(group, rows, steps, arrival_ns)
                group, rows, steps = [], [], []
        self._board(group, rows, steps, arrival_ns)

    def _board(
        self, group: list[Rider], rows: list[object], steps: list[SequenceStep], arrival_ns: int
    ) -> None:
        if not group:
            return
        served, sequences = self._served, self._sequences
        try:
            if not served.takes_riders:
                raise ValueError
            merged = self._form.merge(rows)
        except (ValueError, OverflowError):
            walk(group)
            return
        outputs = sequences.run_steps_now([merged], steps, arrival_ns)
        if outputs is not None:
            answer_all(self._form, group, outputs)
            return
        name, version, together = served.name, str(served.version), self._together
        for place, (rider, step) in enumerate(zip(group, steps, strict=True)):
            item = SteppedRequest(
                InferenceRequest(name, version, [], sequence=step), [merged[place : place + 1]], 1,
                (), None, rider.settle, arrival_ns, together=together, rider=rider,
            )  # fmt: skip
            try:
                sequences.enqueue(item)
            except InferdError as error:
                rider.settle(error)
            else:
                rider.wait(item)

    def _answer(
        self, items: Sequence[QueuedRequest], wanted: list[bool], outputs: list[Array]
    ) -> None:
        """Answer requests that have run together, a row each of the outputs."""
        riders = [item.rider if isinstance(item, SteppedRequest) else None for item in items]
        try:
            for rider, want, body in zip(riders, wanted, self._form.answers(outputs), strict=True):
                if want and rider is not None:
                    rider.answer(body)
        except Exception:
            _log.exception("express lane failed", extra={"model": self._served.name})
            for rider, want in zip(riders, wanted, strict=True):
                if want and rider is not None:
                    rider.fail()
