"""Runs an ensemble's requests: each step waits in the queue of its own model, with everybody's
requests, or all steps run at once.

It refuses to know what becomes of one request (`run.py`) and how a model is found. All calls on
the loop's thread.
"""

import copy
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import OnDone, OnPart, QueuedRequest
from inferd.errors import InferdError, ModelUnavailable, RequestCancelled
from inferd.observability.statistics import LATENCY_BOUNDS_NS, Histogram
from inferd.serving.ensembles.arrays import Stage, fitted
from inferd.serving.ensembles.flow import Call
from inferd.serving.ensembles.graph import EnsembleGraph, Member, Step
from inferd.serving.ensembles.run import Done, EnsembleRun
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import Array, Tensor

Resolve = Callable[[str, str], ServedModel]

MOST_PRUNED = 256
"""Choices of an ensemble's outputs whose steps are remembered."""

_clock_ns = time.perf_counter_ns


def member_of(served: ServedModel) -> Member:
    """What an ensemble has to know of a model."""
    description = served.description
    return Member(
        description.max_batch_size, description.inputs, served.outputs, served.signature.streams
    )


class EnsembleRunner:
    """Runs one ensemble; a ModelRunner. `timings` are of its steps, by their place."""

    restarts = 0
    concurrency = 1

    def __init__(self, graph: EnsembleGraph, resolve: Resolve) -> None:
        self.graph = graph
        self.timings = [Histogram(LATENCY_BOUNDS_NS) for _ in graph.steps]
        self._resolve = resolve
        # A model that has been unloaded is nobody's any more, whether or not requests come.
        self._bound: WeakValueDictionary[int, ServedModel] = WeakValueDictionary()
        self._runs: dict[QueuedRequest, EnsembleRun] = {}
        self._pruned: dict[tuple[int, ...], EnsembleGraph] = {}
        self._names = {
            step.index: [RequestedOutput(name) for name, _ in step.outputs]
            if len(step.outputs) < len(step.member.outputs)
            else None
            for step in graph.steps
        }
        self._plan = [Stage(step) for step in graph.steps]

    # -- members ---------------------------------------------------------------------------------

    def served(self, step: Step) -> ServedModel:
        """The model of a step, as it is loaded now; raises ModelNotFound, ModelUnavailable."""
        served = self._resolve(step.model, step.version)
        if served is not self._bound.get(step.index):
            if member_of(served) != step.member:
                raise ModelUnavailable("the model was loaded again with other tensors")
            self._bound[step.index] = served
        return served

    def members(self) -> list[ServedModel]:
        """The models of all steps; raises as `served`, naming the step."""
        found = []
        for step in self.graph.steps:
            try:
                found.append(self.served(step))
            except InferdError as error:
                raise self.within(step, error) from error
        return found

    def within(self, step: Step, error: InferdError) -> InferdError:
        """A step's error, as the ensemble tells it."""
        told = copy.copy(error)
        told.args = (f"in ensemble '{self.graph.name}', {step.where}: {error}",)
        told.__cause__ = error.__cause__
        return told

    @property
    def trouble(self) -> str:
        """Why requests would fail now: a model that is not there, or has other tensors."""
        try:
            for step, served in zip(self.graph.steps, self.members(), strict=True):
                if served.trouble:
                    return f"{step.where}: {served.trouble}"
        except InferdError as error:
            return str(error)
        return ""

    # -- BatchRunner -----------------------------------------------------------------------------

    def available(self) -> bool:
        """Always: what waits, waits at its models."""
        return True

    def available_ahead(self, rows: int) -> bool:
        """There is no need."""
        return False

    def enough(self, waiting: int, first: int = 1) -> int:
        """Each request goes by itself: merged it would be copied, and its models merge anyhow."""
        return first

    def run(self, batch: Batch, done: Done, alone: bool = True) -> None:
        """Run one request; see BatchRunner."""
        (item,) = batch.items
        graph = self.graph
        if item.outputs is not None and len(item.outputs) < len(graph.outputs):
            graph = self._graph_for(tuple(sorted(item.outputs)))
        run = self._runs[item] = EnsembleRun(self, graph, batch, done)
        run.go()

    def _graph_for(self, outputs: tuple[int, ...]) -> EnsembleGraph:
        found = self._pruned.get(outputs)
        if found is None:
            if len(self._pruned) >= MOST_PRUNED:
                self._pruned.clear()
            found = self._pruned[outputs] = self.graph.pruned(outputs)
        return found

    def runs_now(self, rows: int) -> bool:
        """Whether each of its models would run at once."""
        if self.graph.streams:
            return False
        try:
            for step in self.graph.steps:
                if not self.served(step).runs_now(rows):
                    return False
        except InferdError:
            return False
        return True

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """Run merged inputs through its models, one after the other; None where one of them would
        not run at once, or an array is not what the next one takes."""
        if not self.runs_now(rows):
            return None
        start_ns = _clock_ns()
        graph = self.graph
        tensors = {spec.name: array for spec, array in zip(graph.inputs, inputs, strict=True)}
        for stage, timing in zip(self._plan, self.timings, strict=True):
            arrays = stage.inputs(tensors)
            if arrays is None:
                return None
            step_ns = _clock_ns()
            outputs = self._bound[stage.index].run_now(arrays, rows, step_ns)
            if outputs is None:
                return None
            timing.observe_equal(_clock_ns() - step_ns, rows)
            made = zip(stage.becomes, outputs, strict=True)
            tensors.update((tensor, array) for tensor, array in made if tensor is not None)
        answer = [tensors[spec.name] for spec in graph.outputs]
        return BatchResult(answer, None, 0, _clock_ns() - start_ns)

    def cancelled(self, item: QueuedRequest) -> None:
        """Give up what its models have of a request."""
        run = self._runs.get(item)
        if run is not None:
            run.end(RequestCancelled("nobody waits for it"))

    def took(self, item: QueuedRequest, parts: int) -> None:
        """So many answers of a stream have gone on to the client."""
        run = self._runs.get(item)
        if run is not None:
            run.took(parts)

    def drain_rate(self) -> float:
        """Nothing waits here."""
        return 0.0

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        """It is always there."""

    def close(self) -> None:
        """It holds nothing."""
        self._bound.clear()

    # -- for its runs ----------------------------------------------------------------------------

    def submit(
        self, call: Call, batch: Batch, on_done: OnDone,
        on_part: OnPart | None,
    ) -> tuple[ServedModel, QueuedRequest]:  # fmt: skip
        """Queue a step at its model; raises as ServedModel.submit."""
        step, item = call.step, batch.items[0]
        served = self.served(step)
        came = item.request
        inputs = [
            Tensor(spec.name, spec.datatype, call.inputs[spec.name])
            for spec, _ in step.inputs
            if spec.name in call.inputs
        ]
        if step.mixed:
            specs = {spec.name: spec.shape for spec, _ in step.inputs}
            for tensor in inputs:
                tensor.array = fitted(tensor.array, specs[tensor.name])
        request = InferenceRequest(
            step.model, step.version, inputs, self._names[step.index], came.id, came.parameters,
            came.timeout_us, came.deadline_ns, came.priority, call.sequence, came.session,
            depth=came.depth,
        )  # fmt: skip
        return served, served.submit(request, on_done, on_part, item.riders)

    def forget(self, item: QueuedRequest) -> None:
        """A request has ended."""
        self._runs.pop(item, None)
