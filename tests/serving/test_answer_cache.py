"""Answers that are kept: when, for whom, and how it is counted."""

import asyncio
import time

import numpy as np
import pytest

from fakes import FakeTraceSink, on_loop, turns
from inferd.caching.local import LocalCache
from inferd.config.model import ModelConfig, ModelResponseCache
from inferd.config.scheduling import ModelSequenceBatching
from inferd.errors import BackendError, ConfigError, Overloaded
from inferd.observability.tracing import Tracing
from inferd.serving import answer_cache
from inferd.serving.answer_cache import LARGE_BYTES
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.served_model import ServedModel
from inferd.types.datatype import BYTES, FP32
from inferd.types.inference import (
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    SequenceStep,
)
from inferd.types.tensor import Tensor
from serving.ensembles.fake_models import Answer, FakeModelRunner, Fakes, fake_model


class Cached:
    """A model whose answers are kept, and what its callers were told."""

    def __init__(self, cache: LocalCache | None = None, columns: int = 4) -> None:
        self.cache = cache or LocalCache(1 << 24)
        self.runner = FakeModelRunner(lambda arrays: [array + 1 for array in arrays])
        self.served = fake_model("m", self.runner, columns=columns)
        self.served.keep_answers(self.cache)
        self.columns = columns
        self.answers: list[Answer] = []

    def ask(self, value: float = 0.0, rows: int = 1, **more: object):  # type: ignore[no-untyped-def]
        array = np.full((rows, self.columns), value, np.float32)
        request = InferenceRequest("m", "", [Tensor("x", FP32, array)], **more)  # type: ignore[arg-type]
        return self.served.submit(request, self.answers.append)

    async def settle(self) -> None:
        for _ in range(3):
            await turns(3)
            while self.runner.running:
                self.runner.finish()

    @property
    def runs(self) -> int:
        return len(self.runner.started)

    def values(self) -> list[float]:
        found = []
        for answer in self.answers:
            assert isinstance(answer, InferenceResponse), answer
            found.append(float(answer.outputs[0].array[0, 0]))
        return found


@on_loop
async def test_an_equal_request_is_answered_by_what_is_kept() -> None:
    cached = Cached()
    cached.ask(1.0, id="first")
    await cached.settle()
    cached.ask(1.0, id="second")
    assert len(cached.answers) == 1  # never before `submit` has returned
    await cached.settle()
    assert cached.values() == [2, 2]
    assert [answer.id for answer in cached.answers if isinstance(answer, InferenceResponse)] == [
        "first", "second"
    ]  # fmt: skip
    assert cached.runs == 1
    cached.ask(2.0)
    cached.ask(1.0, rows=2)
    cached.ask(1.0, outputs=[RequestedOutput("y")])
    await cached.settle()
    assert cached.served.statistics.cache_miss.count == 4
    assert not cached.served.mergeable


@on_loop
async def test_requests_of_sequences_are_always_run() -> None:
    cached = Cached()
    for step in (SequenceStep(5, start=True), SequenceStep(5), SequenceStep(5), None):
        cached.ask(1.0, sequence=step)
        await cached.settle()
    assert (cached.runs, cached.cache.usage.entries) == (4, 1)


@on_loop
async def test_hits_are_successes_and_no_inferences() -> None:
    cached = Cached()
    for _ in range(3):
        cached.ask(1.0)
        await cached.settle()
    counted = cached.served.statistics
    assert (counted.success.count, counted.queue.count) == (3, 3)
    assert (counted.inference_count, counted.execution_count) == (1, 1)
    assert counted.compute_infer.count == 1
    assert (counted.cache_hit.count, counted.cache_miss.count) == (2, 1)
    assert 0 < counted.cache_hit.ns <= counted.success.ns
    assert counted.cache_miss.ns > 0
    assert sum(counted.request_histogram.counts) == 3
    assert abs(counted.last_inference_ms - time.time() * 1000) < 60_000


@on_loop
async def test_hits_and_those_given_up_before_them_are_traced_without_compute() -> None:
    cached, sink = Cached(), FakeTraceSink()
    tracing = Tracing(sink)
    tracing.change({"timestamps": True, "rate": 1, "log_frequency": 1})
    cached.served.trace_to(tracing.model("m"))
    for number in range(2):
        cached.ask(1.0, id=str(number))
        await cached.settle()
    cached.ask(1.0, id="left").cancel()
    await cached.served.drain()
    assert [(t.version, t.request_id, t.compute is None) for t in sink.traces] == [
        (1, "0", False), (1, "1", True), (1, "left", True),
    ]  # fmt: skip
    assert all(trace.came_ns < trace.ended_ns for trace in sink.traces)


@on_loop
async def test_texts_may_be_given_as_bytes_or_as_text() -> None:
    """As they are answered where nothing is kept; what an ensemble's step gives is not checked."""
    cached = Cached()
    cached.served = fake_model("m", cached.runner, datatype=BYTES, columns=1)
    cached.served.keep_answers(cached.cache)
    cached.runner.compute = lambda arrays: [np.array([["é"]], object)]
    for given in ("a", b"a"):
        request = InferenceRequest("m", "", [Tensor("x", BYTES, np.array([[given]], object))])
        cached.served.submit(request, cached.answers.append)
        await cached.settle()
    assert cached.runs == 1
    first, second = cached.answers
    assert isinstance(first, InferenceResponse)
    assert isinstance(second, InferenceResponse)
    assert first.outputs[0].array.tolist() == [["é"]]
    assert second.outputs[0].array.tolist() == [["é".encode()]]


@on_loop
async def test_equal_requests_at_the_same_time_are_all_answered() -> None:
    cached = Cached()
    for _ in range(5):
        cached.ask(1.0)
    await cached.settle()
    assert cached.values() == [2] * 5
    assert cached.cache.usage.entries == 1


@on_loop
async def test_what_a_caller_gets_it_cannot_change_for_the_next() -> None:
    cached = Cached()
    for _ in range(3):
        cached.ask(1.0)
        await cached.settle()
    first = cached.answers[0]
    assert isinstance(first, InferenceResponse)
    first.outputs[0].array[:] = 99  # the first is the model's own
    second = cached.answers[1]
    assert isinstance(second, InferenceResponse)
    with pytest.raises(ValueError, match="read-only"):
        second.outputs[0].array[:] = 99
    second.outputs.clear()
    third = cached.answers[2]
    assert isinstance(third, InferenceResponse)
    assert third.outputs[0].array.tolist() == [[2.0] * 4]


@on_loop
async def test_errors_are_not_kept() -> None:
    cached = Cached()
    cached.ask(1.0)
    await turns(2)
    cached.runner.fail()
    cached.ask(1.0)
    await cached.settle()
    assert isinstance(cached.answers[0], BackendError)
    assert cached.cache.usage.entries == 1
    assert cached.served.statistics.cache_miss.count == 1


@on_loop
async def test_leaving_before_the_answer_that_is_kept() -> None:
    cached = Cached()
    cached.ask(1.0)
    await cached.settle()
    item = cached.ask(1.0)
    assert cached.served.in_flight() == 1
    item.cancel()
    await cached.served.drain()
    assert len(cached.answers) == 1
    counted = cached.served.statistics
    assert (counted.success.count, counted.cache_hit.count) == (1, 0)
    assert counted.failures["CANCELED"] == 1
    item = cached.ask(2.0)  # while it waits in the queue
    item.cancel()
    await cached.served.drain()
    assert len(cached.answers) == 1


@on_loop
async def test_a_full_queue_refuses_at_once_as_ever() -> None:
    cached = Cached()
    cached.served.batcher.queue.max_size = 0
    with pytest.raises(Overloaded):
        cached.ask(1.0)


@on_loop
async def test_the_digest_of_a_large_request_is_made_on_a_thread() -> None:
    cached = Cached(columns=LARGE_BYTES // 4 + 1)
    for _ in range(2):
        cached.ask(1.0)
        assert cached.served.in_flight() == 1
        while not cached.answers or cached.served.in_flight():
            await asyncio.sleep(0)
            while cached.runner.running:
                cached.runner.finish()
    assert cached.values() == [2, 2]
    assert cached.runs == 1


@on_loop
async def test_where_too_many_are_looked_up_others_are_just_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_cache, "MOST_LOOKUPS", 1)
    cached = Cached(columns=LARGE_BYTES // 4 + 1)
    cached.ask(1.0)
    cached.ask(2.0)
    assert cached.served.batcher.queue.size == 1
    while len(cached.answers) < 2:
        await asyncio.sleep(0)
        while cached.runner.running:
            cached.runner.finish()
    assert sorted(cached.values()) == [2, 3]


@on_loop
async def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    cached = Cached(LocalCache(600))
    cached.ask(1.0)
    await cached.settle()
    assert cached.cache.usage.entries == 1
    cached.ask(1.0, rows=8)
    await cached.settle()
    assert cached.cache.usage.entries == 1
    assert cached.cache.usage.evictions == 0


def loaded(config: ModelConfig, fingerprint: tuple[tuple[str, int, int], ...]) -> ServedModel:
    made = fake_model("m", FakeModelRunner(lambda arrays: arrays))
    spec = LoadSpec("m", 1, made.spec.path, "fake", config, 1, {}, fingerprint=fingerprint)
    parts = LoadedModel(
        description=made.description, runners=[FakeModelRunner(lambda arrays: arrays)],
        instance_count=1, load_ns=0,
    )  # fmt: skip
    return ServedModel(spec, parts, asyncio.get_running_loop())


@on_loop
async def test_a_model_is_another_one_when_its_files_or_its_configuration_are() -> None:
    files = (("model.onnx", 1, 5),)
    same = loaded(ModelConfig(), files).identity
    assert loaded(ModelConfig(), files).identity == same
    others = [
        loaded(ModelConfig(), (("model.onnx", 2, 5),)).identity,
        loaded(ModelConfig(parameters={"p": "q"}), files).identity,
        fake_model("n", FakeModelRunner(lambda arrays: arrays)).identity,
        fake_model("n", FakeModelRunner(lambda arrays: arrays), version=2).identity,
    ]
    assert len({same, *others}) == 5


@on_loop
async def test_an_ensemble_is_another_one_when_one_of_its_models_is() -> None:
    fakes = Fakes("a(x=in) -> y=t", "b(x=t) -> y=out")
    fakes.add("a")
    fakes.add("b")
    cache = LocalCache(1 << 20)
    fakes.ensemble.keep_answers(cache)
    for _ in range(2):
        fakes.ask(1.0)
        await fakes.settle()
    assert fakes.ensemble.statistics.cache_hit.count == 1
    assert len(fakes.runners["b"].started) == 1
    fakes.models["b"] = fake_model("b", fakes.runners["b"], version=2)
    fakes.ask(1.0)
    await fakes.settle()
    assert len(fakes.runners["b"].started) == 2
    assert len(fakes.answers) == 3


@on_loop
async def test_a_member_keeps_its_own_answers() -> None:
    fakes = Fakes("a(x=in) -> y=t", "b(x=t) -> y=out")
    fakes.add("a")
    fakes.add("b")
    fakes.models["a"].keep_answers(LocalCache(1 << 20))
    for _ in range(2):
        fakes.ask(1.0)
        await fakes.settle()
    assert not fakes.ensemble.mergeable
    assert len(fakes.runners["a"].started) == 1
    assert len(fakes.runners["b"].started) == 2
    assert [fakes.values(answer) for answer in fakes.answers] == [[3], [3]]
    assert fakes.models["a"].statistics.success.count == 2


@on_loop
async def test_what_answers_by_more_than_a_request_is_refused_in_tritons_words() -> None:
    cache = LocalCache(1 << 20)
    stream = fake_model("s", FakeModelRunner(lambda arrays: arrays), streams=True)
    with pytest.raises(ConfigError, match="model s with 'decoupled' transaction policy"):
        stream.keep_answers(cache)
    config = ModelConfig(
        response_cache=ModelResponseCache(enable=True), sequence_batching=ModelSequenceBatching()
    )
    with pytest.raises(ConfigError, match="model m with sequence batching scheduler"):
        loaded(config, ()).keep_answers(cache)
