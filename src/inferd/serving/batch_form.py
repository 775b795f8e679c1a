"""How batches of one model become jobs of its workers, and what those say results: of a batch, or,
of a model that looks at requests, of each of them (`request_jobs.py`).

It refuses to know which worker runs what (`worker_pool.py`).
"""

from collections.abc import Sequence

from inferd.batching.batch import Batch, StreamPart
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.serving.request_jobs import particulars_of, result_of, rows_of, stacked
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array, LeftOut
from inferd.workers.memory import Window, pack, unpack
from inferd.workers.messages import Done, Loaded, Packed, Part, Run

Shape = tuple[int, ...]


class BatchForm:
    """By what a worker has said of the model. With `requests` it looks at requests rather than at a
    batch; one that is `unbatched` runs them one after the other."""

    def __init__(self, loaded: Loaded) -> None:
        self.requests = loaded.terms.requests
        self.unbatched = not loaded.max_batch_size
        self._ragged = loaded.ragged
        made = [made.made_as for made in loaded.layout.made] if loaded.layout else []
        self._kinds = {"predict": [*[DATATYPES[line.datatype] for line in loaded.inputs], *made]}
        if loaded.explain is not None:
            self._kinds["explain"] = [DATATYPES[a.datatype] for a in loaded.explain.inputs]

    def run(self, job: int, slot: int, batch: Batch, inward: Window) -> Run:
        """The command to run a batch, whose inputs may go to shared memory; raises MemoryError,
        OSError and OverflowError where they do not fit."""
        items = batch.items
        method = items[0].request.method
        inputs, shapes = self._packed(method, batch, inward)
        return Run(
            job, slot, method, inputs,
            rows_of(items) if self.requests else [item.rows for item in items],
            [item.request.session for item in items], self.unbatched and len(items) > 1,
            particulars_of(items) if self.requests else {}, shapes,
        )  # fmt: skip

    def _packed(
        self, method: str, batch: Batch, inward: Window
    ) -> tuple[list[Packed | None], dict[int, list[Shape]]]:
        """Inputs, and the shapes that requests have of those in which they differ, by place."""
        columns = list(batch.columns())
        shapes = {}
        for place in self._ragged:
            column = columns[place]
            if len({array.shape[1:] for array in column}) > 1:
                shapes[place] = [array.shape for array in column]
                columns[place] = [array.ravel() for array in column]
        given = [
            (kind, column)
            for kind, column in zip(self._kinds[method], columns, strict=True)
            if not isinstance(column[0], LeftOut)
        ]
        packs = pack(given, inward)
        if self.unbatched and len(batch.items) > 1:
            packs = [stacked(p, column) for p, (_, column) in zip(packs, given, strict=True)]
        packed = iter(packs)
        inputs = [None if isinstance(column[0], LeftOut) else next(packed) for column in columns]
        return inputs, shapes

    def result(
        self, done: Done, items: Sequence[QueuedRequest], outputs: list[Array]
    ) -> BatchResult:
        """What came of a job whose merged outputs are these; times are not known here."""
        if self.requests:
            return result_of(done, items, outputs)
        if len(done.errors) == len(items):
            return BatchResult(None, done.errors[0], 0, 0, done.errors)
        if done.each is None:
            return BatchResult(outputs, None, 0, 0, done.errors)
        each = [[unpack(p, None, False) for p in packed if p is not None] for packed in done.each]
        return BatchResult(None, None, 0, 0, done.errors, each)


def part_of(part: Part) -> StreamPart:
    """A part of a request's stream."""
    arrays = [None if packed is None else unpack(packed, None, False) for packed in part.outputs]
    return StreamPart(arrays, part.parameters, part.error, part.final, part.request)
