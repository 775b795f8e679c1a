"""Models whose runs end when a test says so, and an ensemble of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fakes import FakeBatchRunner, turns
from inferd.backends.base import ModelDescription
from inferd.batching.batch import StreamPart
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.config.model import ModelConfig
from inferd.errors import InferdError, ModelUnavailable
from inferd.serving.ensembles.loading import EnsembleModel, load_ensemble
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import FP32, DataType
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.signature import Argument, Signature
from inferd.types.tensor import Array, Tensor, TensorSpec
from serving.ensembles.graphs import config

Answer = InferenceResponse | InferdError


class FakeModelRunner(FakeBatchRunner):
    """A ModelRunner; with `at_once` it also runs what comes together."""

    restarts = 0
    concurrency = 1
    trouble = ""

    def __init__(self, compute: Callable[..., Any], at_once: bool = False) -> None:
        super().__init__(instances=100, compute=compute)
        self.at_once = at_once
        self.taken: list[int] = []

    def runs_now(self, rows: int) -> bool:
        return self.at_once

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        return BatchResult(self.compute(inputs), None, 0, 1) if self.at_once else None

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        pass

    def took(self, item: QueuedRequest, parts: int) -> None:
        self.taken.append(parts)

    def close(self) -> None:
        pass

    def part(self, value: float) -> None:
        """Stream a response of the oldest run."""
        on_part = self.running[0][0].on_part
        assert on_part is not None
        on_part(StreamPart([np.full((1, 4), value, np.float32)]))

    def bad_part(self, error: InferdError) -> None:
        """Stream an error."""
        on_part = self.running[0][0].on_part
        assert on_part is not None
        on_part(StreamPart([], error=error))

    def empty_part(self) -> None:
        """Stream a response without outputs."""
        on_part = self.running[0][0].on_part
        assert on_part is not None
        on_part(StreamPart([None], parameters={"p": 1}))

    def end(self) -> None:
        """End the stream of the oldest run."""
        self.finish(outputs=[])


def fake_model(
    name: str, runner: FakeModelRunner, inputs: str = "x", outputs: str = "y",
    streams: bool = False, max_batch_size: int = 8, version: int = 1, columns: int = 4,
    datatype: DataType = FP32,
) -> ServedModel:  # fmt: skip
    """A model of rows of 4, by the letters of its tensors."""
    shape = (-1, columns) if max_batch_size else (columns,)
    specs = [
        [TensorSpec(letter, datatype, shape) for letter in names] for names in (inputs, outputs)
    ]
    arguments = [
        tuple(Argument(name=spec.name, datatype="FP32", form="tensor", shape=(4,)) for spec in side)
        for side in specs
    ]
    signature = Signature(inputs=arguments[0], outputs=arguments[1], streams=True)
    description = ModelDescription(
        platform="fake", backend="fake", max_batch_size=max_batch_size, inputs=tuple(specs[0]),
        outputs=tuple(specs[1]), signature=signature if streams else None,
    )  # fmt: skip
    spec = LoadSpec(name, version, Path(), "fake", ModelConfig(), 1, {})
    loaded = LoadedModel(description=description, runners=[runner], instance_count=1, load_ns=0)
    return ServedModel(spec, loaded, asyncio.get_running_loop())


class Fakes:
    """Models by name, and an ensemble `e` of them."""

    def __init__(self, *written: str, **more: Any) -> None:
        self.runners: dict[str, FakeModelRunner] = {}
        self.models: dict[str, ServedModel] = {}
        self._said = written, more
        self.answers: list[Answer] = []
        self.parts: list[Answer] = []
        self.made: EnsembleModel | None = None

    def add(
        self, name: str, compute: Callable[..., Any] = lambda arrays: [a + 1 for a in arrays],
        at_once: bool = False, **more: Any,
    ) -> "FakeModelRunner":  # fmt: skip
        runner = self.runners[name] = FakeModelRunner(compute, at_once)
        self.models[name] = fake_model(name, runner, **more)
        return runner

    def resolve(self, name: str, version: str) -> ServedModel:
        if name not in self.models:
            raise ModelUnavailable(f"'{name}' is not there")
        return self.models[name]

    @property
    def ensemble(self) -> EnsembleModel:
        if self.made is None:
            written, more = self._said
            spec = LoadSpec("e", 1, Path(), "ensemble", config(*written, **more), 1, {})
            self.made = load_ensemble(spec, self.resolve, asyncio.get_running_loop())
        return self.made

    def ask(self, value: float = 0.0, rows: int = 1, **more: Any) -> QueuedRequest:
        """A request of rows that hold `value`; what it is told goes to `answers` and `parts`."""
        shape = (rows, 4) if self.ensemble.description.max_batch_size else (4,)
        inputs = [Tensor("in", FP32, np.full(shape, value, np.float32))]
        request = InferenceRequest("e", "", inputs, **more)
        on_part = self.parts.append if self.ensemble.signature.streams else None
        return self.ensemble.submit(request, self.answers.append, on_part)

    async def settle(self) -> None:
        """End whatever runs, until nothing does."""
        for _ in range(20):
            await turns(3)
            for runner in self.runners.values():
                while runner.running:
                    runner.finish()

    def values(self, answer: Answer) -> list[float]:
        """The first number of each output of an answer."""
        assert isinstance(answer, InferenceResponse), answer
        return [float(tensor.array[0, 0]) for tensor in answer.outputs]

    def told(self) -> str:
        """The one error that was told."""
        (answer,) = self.answers
        assert isinstance(answer, InferdError)
        return str(answer)
