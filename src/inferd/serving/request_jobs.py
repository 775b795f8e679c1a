"""Jobs of models that look at requests rather than at a batch: what is told of each request, and
what comes of each. Requests that came as one (riders) are told apart there, and joined again here.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.types.inference import Parameters
from inferd.types.tensor import Array
from inferd.workers.memory import unpack
from inferd.workers.messages import Done, Packed, Particulars

Outputs = Sequence[Array | None]

_START, _END = 1, 2


def particulars_of(items: Sequence[QueuedRequest]) -> dict[int, Particulars]:
    """What requests say beside their inputs, by place; only of those that say anything."""
    told: dict[int, Particulars] = {}
    place = 0
    for item in items:
        request = item.request
        if (
            request.id or request.parameters or request.sequence or request.outputs
            or request.priority or request.timeout_us or request.depth
        ):  # fmt: skip
            told[place] = _particulars(item)
        place += item.riders or 1  # a row that is nobody's has none
    return told


def _particulars(item: QueuedRequest) -> Particulars:
    request, step = item.request, item.request.sequence
    return Particulars(
        request.id,
        tuple([output.name for output in request.outputs]) if request.outputs else None,
        dict(request.parameters) if request.parameters else None,
        step.id if step is not None else 0,
        _START * step.start + _END * step.end if step is not None else 0,
        request.priority, request.timeout_us, request.depth,
    )  # fmt: skip


def rows_of(items: Sequence[QueuedRequest]) -> list[int]:
    """The rows of each request, riders each with theirs."""
    if all(item.riders == 1 for item in items):
        return [item.rows for item in items]
    return [
        rows for item in items for rows in ([1] * item.riders if item.riders > 1 else [item.rows])
    ]


def stacked(packed: Packed, column: Sequence[Array]) -> Packed:
    """Arrays of one shape that lie behind one another, as one along a new first dimension."""
    shape = (len(column), *column[0].shape)
    return Packed(packed.datatype, shape, packed.data, packed.size)


def result_of(done: Done, items: Sequence[QueuedRequest], outputs: list[Array]) -> BatchResult:
    """What came of a job whose merged outputs are these; times are not known here. Nothing is run
    again for an error: the model has seen its requests, and each has its own."""
    rows = rows_of(items)
    result = BatchResult(None, None, 0, 0, dict(done.errors), reschedule=done.reschedule)
    if done.each is not None:
        result.each = [
            [None if packed is None else unpack(packed, None, False) for packed in answer]
            for answer in done.each
        ]
        result.parameters = done.parameters  # type: ignore[assignment]
    else:
        result.outputs = outputs
        if done.stacked:
            count = len(items) - len(done.errors) - len(done.reschedule)
            result.each = [[output[place] for output in outputs] for place in range(count)]
            result.outputs = None
    if len(rows) == len(items) or not (result.errors or result.each is not None):
        return result
    return _joined(result, rows, items)


def _joined(result: BatchResult, rows: list[int], items: Sequence[QueuedRequest]) -> BatchResult:
    """The same by item, where some are several requests: of those any that is not whole has all of
    them come again, each by itself."""
    said = result.parameters or {}
    answers = _answers(result, [n for i, n in enumerate(rows) if i not in result.errors])
    left = iter([(answer, said.get(place)) for place, answer in enumerate(answers)])
    requests: Iterator[tuple[Outputs | InferdError, Parameters | None]] = iter(
        [
            (result.errors[place], None) if place in result.errors else next(left)
            for place in range(len(rows))
        ]
    )
    joined = BatchResult(None, None, 0, 0, each=[])
    each: list[Outputs] = []
    parameters: dict[int, Parameters] = {}
    for place, item in enumerate(items):
        came = [next(requests) for _ in range(item.riders)]
        outcome, told = came[0] if item.riders == 1 else (_together(came), None)
        if isinstance(outcome, InferdError):
            joined.errors[place] = outcome
            continue
        if told:
            parameters[len(each)] = told
        each.append(outcome)
    joined.each, joined.parameters = each, parameters or None
    return joined


def _answers(result: BatchResult, rows: list[int]) -> list[Outputs]:
    if result.each is not None:
        return [*result.each]
    answers: list[Outputs] = []
    start = 0
    for count in rows:
        answers.append([output[start : start + count] for output in result.outputs or ()])
        start += count
    return answers


def _together(
    came: Sequence[tuple[Outputs | InferdError, Parameters | None]],
) -> Outputs | InferdError:
    columns: list[Array] = []
    outcomes: list[Outputs] = []
    for outcome, told in came:
        if isinstance(outcome, InferdError):
            return outcome
        if told:
            return BackendError("answers of requests that came together say more than tensors")
        outcomes.append(outcome)
    for column in zip(*outcomes, strict=True):
        arrays = [a for a in column if a is not None and a.ndim and a.shape[0] == 1]
        shapes = {array.shape for array in arrays}
        if len(arrays) < len(column) or len(shapes) != 1:
            return BackendError("answers of requests that came together have different shapes")
        columns.append(np.concatenate(arrays))
    return columns
