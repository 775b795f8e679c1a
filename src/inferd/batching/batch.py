"""A batch: requests that run together, merged on the way in and split on the way out.

Pure numpy. It refuses to know how a batch is run or why it was closed.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from inferd.batching.layout import BatchLayout
from inferd.batching.queue import DONE, QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.types.inference import Parameters
from inferd.types.tensor import Array


class StreamPart(msgspec.Struct, eq=False):
    """One part of a request's stream: outputs in the model's order, None for one that it does not
    have; or an error, which the stream may outlive. `final`: nothing comes behind it. `place` is
    that of the request in its batch."""

    arrays: Sequence[Array | None]
    parameters: Parameters | None = None
    error: InferdError | None = None
    final: bool = False
    place: int = 0


class Batch:
    """Requests that run together; `rows` is their number of rows in all.

    `start_ns` is when it was handed to an instance, on `time.perf_counter_ns`. One that is
    `secluded` is to run with nothing beside it. `on_part` takes parts of streams, if requests want
    them.
    """

    __slots__ = ("items", "on_part", "rows", "secluded", "start_ns")

    def __init__(self, items: list[QueuedRequest], rows: int) -> None:
        self.items = items
        self.rows = rows
        self.start_ns = 0
        self.secluded = False
        self.on_part: Callable[[StreamPart], None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for it."""
        return any(item.stage is not DONE for item in self.items)

    def like(self, items: list[QueuedRequest]) -> "Batch":
        """A batch of other requests of the same model."""
        return Batch(items, sum([item.rows for item in items]))

    def columns(self) -> Sequence[Sequence[Array]]:
        """Each of the model's inputs, as the parts that make it up along the first dimension."""
        return list(zip(*[item.arrays for item in self.items], strict=True))

    def merge(self) -> list[Array]:
        """The inputs of all requests, joined along the first dimension, in the model's order."""
        items = self.items
        if len(items) == 1:
            return items[0].arrays
        return [np.concatenate(column) for column in self.columns()]

    def split(self, outputs: list[Array]) -> list[list[Array]]:
        """The outputs of each request: views of `outputs`, in the order of `items`.

        Raises BackendError when an output's first dimension is not the batch's rows.
        """
        if len(self.items) == 1:
            return [outputs]
        for index, output in enumerate(outputs):
            if output.ndim == 0 or output.shape[0] != self.rows:
                raise BackendError(
                    f"the model returned shape {list(output.shape)} in output {index} for a batch "
                    f"of {self.rows}: its outputs do not keep the batch dimension; set "
                    "max_batch_size: 0 in its configuration"
                )
        parts = []
        start = 0
        for item in self.items:
            end = start + item.rows
            parts.append([output[start:end] for output in outputs])
            start = end
        return parts

    def singles(self) -> "list[Batch]":
        """Each request by itself, to be run with nothing beside it."""
        alone = [self.like([item]) for item in self.items]
        for batch in alone:
            batch.secluded = True
        return alone

    def halves(self) -> "list[Batch]":
        """Two smaller batches; only for a batch of two requests or more."""
        middle = len(self.items) // 2
        return [self.like(self.items[:middle]), self.like(self.items[middle:])]


class LaidOutBatch(Batch):
    """A batch of a model that has a layout."""

    __slots__ = ("_layout",)

    def __init__(self, layout: BatchLayout, items: list[QueuedRequest], rows: int) -> None:
        super().__init__(items, rows)
        self._layout = layout

    def like(self, items: list[QueuedRequest]) -> Batch:
        """See Batch."""
        return LaidOutBatch(self._layout, items, sum([item.rows for item in items]))

    def columns(self) -> Sequence[Sequence[Array]]:
        """See Batch."""
        return self._layout.columns([item.arrays for item in self.items])

    def merge(self) -> list[Array]:
        """What the model is given, in its own order; see BatchLayout."""
        return self._layout.merge([item.arrays for item in self.items])

    def split(self, outputs: list[Array]) -> list[list[Array]]:
        """The outputs of each request; see BatchLayout. Raises BackendError."""
        requests = [item.arrays for item in self.items]
        return self._layout.split(outputs, requests, [item.rows for item in self.items])
