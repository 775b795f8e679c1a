"""An EnsembleRun: one request on its way through the steps of an ensemble, each of which is queued
at its model, and takes the arrays of the steps before as they are.

It refuses to know which steps can run (`flow.py`). All calls on the loop's thread.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from inferd.batching.batch import Batch, StreamPart
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import OnDone, OnPart, QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.observability.statistics import Histogram
from inferd.serving.ensembles.arrays import fitted
from inferd.serving.ensembles.flow import Call, Flow
from inferd.serving.ensembles.graph import EnsembleGraph, Step
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Array, LeftOut

Done = Callable[[Batch, BatchResult], None]

_clock_ns = time.perf_counter_ns
_NOT_ASKED_FOR: Array = np.empty(0)


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
        self._flow = Flow(graph, given)

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

    def end(self, error: InferdError | None, outputs: list[Array] | None = None) -> None:
        """The one way in which it ends; what its models still have of it is given up."""
        if self._ended:
            return
        self._ended = True
        self._runner.forget(self._batch.items[0])
        calls, self._calls = self._calls, {}
        for _, item, _ in calls.values():
            item.cancel()
        infer_ns = _clock_ns() - self._batch.start_ns
        self._done(self._batch, BatchResult(outputs, error, 0, infer_ns))

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
        """Hand outputs on; where one is missing that there has to be, it ends here."""
        made = {tensor.name: tensor.array for tensor in response.outputs}
        missing = [name for name, _ in call.step.outputs if name not in made]
        if missing:
            error = BackendError(f"the model gave no output '{missing[0]}'")
            self.end(self._runner.within(call.step, error))
            return False
        self._flow.arrived(call, [made[name] for name, _ in call.step.outputs])
        return True

    def _tell(self) -> None:
        streams = self._runner.graph.streams
        outputs: list[Array] = []
        for answer in self._flow.answers():
            outputs = self._placed(answer)
            if streams and self._batch.on_part is not None:
                self._batch.on_part(StreamPart(outputs))
                if self._ended:  # who was told has left
                    return
        self._pass_on()
        if self._flow.finished:
            self.end(None, [] if streams else outputs)

    def _pass_on(self) -> None:
        """Have the models that stream go on, as far as their responses have been dealt with."""
        for call in self._flow.credits():
            running = self._calls.get(call)
            if running is not None:
                served, item, _ = running
                served.took(item, 1)

    def _placed(self, answer: list[Array]) -> list[Array]:
        """An answer's arrays in the places of the ensemble's outputs."""
        full = self._runner.graph
        if full.mixed:
            shapes = [spec.shape for spec in self._graph.outputs]
            answer = [fitted(array, shape) for array, shape in zip(answer, shapes, strict=True)]
        if self._graph is full:
            return answer
        made = {s.name: array for s, array in zip(self._graph.outputs, answer, strict=True)}
        return [made.get(spec.name, _NOT_ASKED_FOR) for spec in full.outputs]
