"""An ensemble made of models that are loaded already."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from inferd.backends.base import ModelDescription
from inferd.batching.rate_limiter import Limits
from inferd.errors import ConfigError, InferdError
from inferd.repository.formats import ENSEMBLE
from inferd.serving.ensembles.graph import EnsembleGraph
from inferd.serving.ensembles.runner import EnsembleRunner, Resolve, member_of
from inferd.serving.ensembles.validation import STEP, ensemble_graph
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.served_model import ServedModel
from inferd.types.signature import tensor_signature

_clock_ns = time.perf_counter_ns


class EnsembleModel(ServedModel):
    """One loaded version of an ensemble."""

    def __init__(
        self, spec: LoadSpec, graph: EnsembleGraph, resolve: Resolve, start_ns: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._runner = EnsembleRunner(graph, resolve)
        signature = tensor_signature(graph.inputs, graph.outputs, graph.max_batch_size)
        description = ModelDescription(
            platform=ENSEMBLE, backend="", max_batch_size=graph.max_batch_size,
            inputs=graph.inputs, outputs=graph.outputs,
            signature=msgspec.structs.replace(signature, streams=True) if graph.streams else None,
        )  # fmt: skip
        load_ns = _clock_ns() - start_ns
        loaded = LoadedModel(
            description=description, runners=[self._runner], instance_count=0, load_ns=load_ns
        )
        super().__init__(spec, loaded, loop)
        for step, timing in zip(graph.steps, self._runner.timings, strict=True):
            self.statistics.steps[str(step.index + 1), step.model] = timing

    @property
    def identity(self) -> bytes:
        """Also that of its models: what they answer, it answers."""
        whole = hashlib.sha256(super().identity)
        for member in self._runner.members():
            whole.update(member.identity)
        return whole.digest()

    @property
    def limits(self) -> Sequence[Limits]:
        """See ServedModel; those of its models."""
        return [limits for member in self._runner.members() for limits in member.limits]

    @property
    def made_of(self) -> frozenset[str]:
        """See ServedModel; none where one of its models is not there."""
        try:
            members = self._runner.members()
        except InferdError:
            return frozenset()
        return frozenset().union(*({one.name, *one.made_of} for one in members))

    @property
    def mergeable(self) -> bool:
        """See ServedModel; each of its models must be, too."""
        try:
            members = self._runner.members()
        except InferdError:
            return False
        mixed = self._runner.graph.mixed
        return super().mergeable and not mixed and all(member.mergeable for member in members)

    @property
    def takes_riders(self) -> bool:
        """See ServedModel; each of its models has to, too."""
        try:
            members = self._runner.members()
        except InferdError:
            return False
        return super().takes_riders and all(member.takes_riders for member in members)

    @property
    def outdated(self) -> bool:
        """Whether one of its models has been loaded again with other tensors, or is not there."""
        try:
            self._runner.members()
        except InferdError:
            return True
        return False


def load_ensemble(
    spec: LoadSpec, resolve: Resolve, loop: asyncio.AbstractEventLoop
) -> EnsembleModel:
    """Make an ensemble of models that `resolve` finds; raises ConfigError that names the step."""
    start_ns = _clock_ns()
    scheduling = spec.config.ensemble_scheduling
    members, labels = [], {}
    for index, step in enumerate(scheduling.step if scheduling else ()):
        where = f"step {index + 1} (model '{step.model_name}')"
        version = "" if step.model_version < 0 else str(step.model_version)
        try:
            served = resolve(step.model_name, version)
        except InferdError as error:
            raise ConfigError(f"{where}: {error}", field=f"{STEP}[{index}].model_name") from error
        members.append(member_of(served))
        for output in served.outputs:
            if output.name in step.output_map and output.labels:
                labels[step.output_map[output.name]] = output.labels
    graph = ensemble_graph(spec.name, spec.config, members)
    return EnsembleModel(
        replace(spec, labels={**labels, **spec.labels}), graph, resolve, start_ns, loop
    )
