"""An EnsembleRun: one request on its way through the steps of an ensemble, each of which is queued
at its model, and takes the arrays of the steps before as they are.

It refuses to know which steps can run (`flow.py`). All calls on the loop's thread.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from inferd.batching.batch import Batch, StreamPart
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import OnDone, OnPart, QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.observability.statistics import Histogram
from inferd.serving.ensembles.arrays import fitted
from inferd.serving.ensembles.flow import Answer, Call, Flow
from inferd.serving.ensembles.graph import EnsembleGraph, Step
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceResponse, Parameters, SequenceStep
from inferd.types.tensor import Array, LeftOut

Done = Callable[[Batch, BatchResult], None]

_clock_ns = time.perf_counter_ns


class StepRunner(Protocol):
    """What runs the steps; `timings` are theirs, by their place."""

    graph: EnsembleGraph
    timings: list[Histogram]

    def submit(
        self, call: Call, batch: Batch, on_done: OnDone,
        on_part: OnPart | None,
    ) -> tuple[ServedModel, QueuedRequest]:  # fmt: skip
        """Queue a step at its model; raises as ServedModel.submit."""

    def within(self, step: Step, error: InferdError) -> InferdError:
        """A step's error, as the ensemble tells it."""

    def forget(self, item: QueuedRequest) -> None:
        """A request has ended."""


class EnsembleRun:
    """One request on its way through the steps."""

    __slots__ = ("_batch", "_calls", "_done", "_ended", "_flow", "_graph", "_runner")

    def __init__(self, runner: StepRunner, graph: EnsembleGraph, batch: Batch, done: Done) -> None:
        self._runner = runner
        self._graph = graph
        self._batch = batch
        self._done = done
        self._calls: dict[Call, tuple[ServedModel, QueuedRequest, int]] = {}
        self._ended = False
        arrays = zip(runner.graph.inputs, batch.items[0].arrays, strict=True)
        given = {s.name: array for s, array in arrays if not isinstance(array, LeftOut)}
        self._flow = Flow(graph, given, batch.items[0].request.sequence)

    def go(self) -> None:
        """Begin what can begin, tell what can be told, and end where nothing is left."""
        for call in self._flow.calls():
            try:
                self._begin(call)
            except InferdError as error:
                self.end(self._runner.within(call.step, error))
                return
        self._tell()

    def took(self, parts: int) -> None:
        """The client has taken so many answers."""
        self._flow.taken(parts)
        self._pass_on()

    def end(
        self, error: InferdError | None, outputs: list[Array | None] | None = None,
        parameters: Parameters | None = None,
    ) -> None:  # fmt: skip
        """The one way in which it ends; what its models still have of it is given up."""
        if self._ended:
            return
        self._ended = True
        self._runner.forget(self._batch.items[0])
        calls, self._calls = self._calls, {}
        for _, item, _ in calls.values():
            item.cancel()
        infer_ns = _clock_ns() - self._batch.start_ns
        each = None if outputs is None else [outputs]
        told = None if parameters is None else {0: parameters}
        self._done(self._batch, BatchResult(None, error, 0, infer_ns, each=each, parameters=told))

    def _begin(self, call: Call) -> None:
        on_part = partial(self._part, call) if call.step.member.streams else None
        began_ns = _clock_ns()
        served, item = self._runner.submit(call, self._batch, partial(self._heard, call), on_part)
        self._calls[call] = served, item, began_ns

    def _part(self, call: Call, result: InferenceResponse | InferdError) -> None:
        if self._ended:
            return
        if isinstance(result, InferdError):
            self.end(self._runner.within(call.step, result))
        elif result.outputs:
            if self._arrived(call, result):
                self.go()
        else:  # it says something else than tensors
            served, item, _ = self._calls[call]
            served.took(item, 1)

    def _heard(self, call: Call, result: InferenceResponse | InferdError) -> None:
        if self._ended:
            return
        _, _, began_ns = self._calls.pop(call)
        if isinstance(result, InferdError):
            self.end(self._runner.within(call.step, result))
            return
        self._runner.timings[call.step.place].observe_equal(_clock_ns() - began_ns, 1)
        if call.step.member.streams or self._arrived(call, result):
            self._flow.ended(call)
            self.go()

    def _arrived(self, call: Call, response: InferenceResponse) -> bool:
        """Hand outputs on; a step that needs one that the model did not give says so itself. What
        the model says of a sequence goes along, as in Triton, and nothing else that it says."""
        sequence = None
        if response.parameters:
            try:
                sequence = sequence_said(response.parameters, call.sequence)
            except BackendError as error:
                self.end(self._runner.within(call.step, error))
                return False
        made = {tensor.name: tensor.array for tensor in response.outputs}
        self._flow.arrived(call, [made.get(name) for name, _ in call.step.outputs], sequence)
        return True

    def _tell(self) -> None:
        streams = self._runner.graph.streams
        outputs: list[Array | None] = []
        parameters: Parameters | None = None
        for answer in self._flow.answers():
            outputs, parameters = self._placed(answer), _parameters(answer.sequence)
            if streams and self._batch.on_part is not None:
                self._batch.on_part(StreamPart(outputs, parameters))
                if self._ended:  # who was told has left
                    return
        self._pass_on()
        if self._flow.finished:
            self.end(None, [] if streams else outputs, None if streams else parameters)

    def _pass_on(self) -> None:
        """Have the models that stream go on, as far as their responses have been dealt with."""
        for call in self._flow.credits():
            running = self._calls.get(call)
            if running is not None:
                served, item, _ = running
                served.took(item, 1)

    def _placed(self, answer: Answer) -> list[Array | None]:
        """An answer's arrays in the places of the ensemble's outputs."""
        full, arrays = self._runner.graph, answer.arrays
        if full.mixed:
            arrays = [
                None if array is None else fitted(array, spec.shape)
                for array, spec in zip(arrays, self._graph.outputs, strict=True)
            ]
        if self._graph is full:
            return arrays
        made = {s.name: array for s, array in zip(self._graph.outputs, arrays, strict=True)}
        return [made.get(spec.name) for spec in full.outputs]


def sequence_said(parameters: Parameters, sequence: SequenceStep | None) -> SequenceStep | None:
    """What the parameters of a model's response say of its request's sequence, if they do; raises
    BackendError."""
    if parameters.keys().isdisjoint(("sequence_id", "sequence_start", "sequence_end")):
        return None
    id = parameters.get("sequence_id", sequence.id if sequence is not None else 0)
    if isinstance(id, bool) or not isinstance(id, int | str):
        raise BackendError(f"the model's parameter 'sequence_id' must be an id, got {id!r}")
    flags = []
    for name in ("sequence_start", "sequence_end"):
        flag = parameters.get(name, False)
        if not isinstance(flag, bool):
            raise BackendError(f"the model's parameter '{name}' must be true or false: {flag!r}")
        flags.append(flag)
    return SequenceStep(id, *flags) if id else None


def _parameters(sequence: SequenceStep | None) -> Parameters | None:
    """What an answer says of its sequence, as Triton's do."""
    if sequence is None:
        return None
    return {
        "sequence_id": sequence.id, "sequence_start": sequence.start, "sequence_end": sequence.end,
    }  # fmt: skip
