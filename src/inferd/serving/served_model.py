"""One loaded version of a model: what it is, what runs it, its queue, its counters.

It refuses to know how a model is loaded (`model_loading.py`, `isolated_loading.py`) and where it
runs. Everything but `close` runs on the loop's thread.
"""

import asyncio
import hashlib
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from inferd import __version__
from inferd.backends.base import ModelDescription
from inferd.batching.batcher import DynamicBatcher
from inferd.batching.queue import DEFAULT_MAX_QUEUE_SIZE, OnDone, OnPart, QueuedRequest
from inferd.batching.rate_limiter import Limits
from inferd.batching.sequences.batcher import SequenceBatcher
from inferd.errors import (
    ConfigError,
    InferdError,
    InvalidRequest,
    ModelUnavailable,
    OnlyStreams,
    Overloaded,
    Unsupported,
)
from inferd.observability.statistics import ModelStatistics
from inferd.observability.tracing import ModelTrace
from inferd.repository.python_classes import TRITON_CLASS
from inferd.serving.answer_cache import AnswerCache, Cache
from inferd.serving.dynamic_model import dynamic_batcher
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.methods import Methods
from inferd.serving.sequence_model import client_specs, sequence_batcher
from inferd.types.inference import InferenceRequest
from inferd.types.signature import Signature, tensor_signature
from inferd.types.tensor import Array, TensorSpec

DEFAULT_MAX_WAITING_IN_SEQUENCES = 16 * DEFAULT_MAX_QUEUE_SIZE
"""Of a model of sequences more may wait: behind those before them, or for a slot."""

_clock_ns = time.perf_counter_ns


class ServedModel:
    """One loaded version of a model."""

    def __init__(
        self, spec: LoadSpec, loaded: LoadedModel, loop: asyncio.AbstractEventLoop
    ) -> None:
        description = loaded.description
        self.spec = spec
        self.name = spec.name
        self.version = spec.version
        self.config = spec.config
        self.description: ModelDescription = description
        self.inputs, outputs = client_specs(spec.config, description)
        self.outputs = tuple(replace(o, labels=spec.labels.get(o.name, o.labels)) for o in outputs)
        self.signature = description.signature or tensor_signature(
            self.inputs, self.outputs, description.max_batch_size
        )
        self.explain_signature = loaded.explain
        self.statistics = ModelStatistics()
        self.statistics.load_ns = loaded.load_ns
        self.created_s = int(time.time())
        self.instance_count = loaded.instance_count
        self.app = loaded.app
        self.cache: AnswerCache | None = None
        """Where answers are kept, if they are."""
        self._loop = loop
        self._loaded = loaded
        self._culprits = loaded.culprits
        self._refuses = loaded.culprits is not None or loaded.passive
        ragged = description.layout.ragged if description.layout else loaded.ragged
        self._methods = Methods(
            spec.name, self.inputs, outputs, loaded.explain, description.max_batch_size, ragged
        )
        self.sequences: SequenceBatcher | None = None
        self._batchers: Sequence[DynamicBatcher | SequenceBatcher]
        if spec.config.sequence_batching is not None:
            self.sequences = sequence_batcher(
                spec.config, spec.path, description, list(loaded.runners), self.outputs,
                self.statistics, DEFAULT_MAX_WAITING_IN_SEQUENCES, loop, spec.name,
                str(spec.version),
            )  # fmt: skip
            for index, runner in enumerate(loaded.runners):
                runner.attach(*self.sequences.listener(index))
            self._batchers = [self.sequences]
        else:
            streams, statistics = self.signature.streams, self.statistics
            batchers = [
                dynamic_batcher(spec, loaded, runner, self.outputs, streams, statistics, loop)
                for runner in loaded.runners
            ]
            for runner, batcher in zip(loaded.runners, batchers, strict=True):
                runner.attach(batcher.look, batcher.fail_waiting, batcher.waits)
            self._batchers = batchers
        self.batcher = self._batchers[0]

    def submit(
        self, request: InferenceRequest, on_done: OnDone,
        on_part: OnPart | None = None, riders: int = 1,
    ) -> QueuedRequest:  # fmt: skip
        """Queue a request; `on_done` is called once, on the loop's thread, unless it is cancelled.

        With `on_part` a model that streams tells it each part, and `on_done` an answer without
        outputs. `riders` is how many requests of one row each it stands for. Raises InvalidRequest,
        Unsupported, Overloaded or ModelUnavailable at once, and then `on_done` is not called.
        """
        arrival_ns = _clock_ns()
        try:
            item = self._methods.queued(request, on_done, arrival_ns)
            if self._refuses:
                self._refuse(request, item.arrays)
            if self.signature.streams and request.method == "predict":
                if on_part is None:
                    raise OnlyStreams(
                        f"model '{self.name}' answers with a stream, which this call cannot carry; "
                        f"use POST /models/{self.name}, /ws/models/{self.name}, generate_stream or "
                        "ModelStreamInfer"
                    )
                item.on_part = on_part
            identity = self.identity if self.cache is not None else b""
        except InferdError:
            self.statistics.failed("OTHER", _clock_ns() - arrival_ns)
            raise
        item.riders = riders
        enqueue = self._batchers[self._place(request)].enqueue
        if self.cache is None or request.sequence is not None:  # which no other one equals
            enqueue(item)
        else:
            self.cache.submit(item, identity, self.method(request.method)[1], enqueue)
        return item

    def _refuse(self, request: InferenceRequest, arrays: list[Array]) -> None:
        """Raises where a request would find nothing to run it, or has ended what ran it."""
        if self._loaded.passive:
            raise ModelUnavailable(
                f"model '{self.name}' takes no requests: all its instance groups are passive"
            )
        many = len(self._batchers) > 1
        trouble = self._loaded.runners[self._place(request)].trouble if many else self.trouble
        if trouble:
            raise ModelUnavailable(f"model '{self.name}' does not run: {trouble}")
        if self._culprits is not None and self._culprits.condemned(request.method, arrays):
            raise InvalidRequest(
                f"this request has ended two workers of model '{self.name}' and is refused"
            )

    def method(self, name: str) -> tuple[Signature, tuple[TensorSpec, ...]]:
        """What a method takes and gives, and its inputs; raises Unsupported for another than
        `predict`, or `explain` of a model that explains."""
        if name == "predict":
            return self.signature, self.inputs
        if name != "explain" or self.explain_signature is None:
            raise Unsupported(f"model '{self.name}' has no method '{name}'")
        return self.explain_signature, self._methods.explain_inputs

    @property
    def limits(self) -> Sequence[Limits]:
        """What the instances of each model need that its requests run on, as far as limited."""
        return [self.spec.limits] if self.spec.limits is not None else []

    @property
    def filename(self) -> str:
        """The file or folder that it is, with its class where Triton would not find that."""
        return self.spec.path.name.removesuffix(f":{TRITON_CLASS}")

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept for requests that are equal."""
        return self.cache is not None

    def keep_answers(self, cache: Cache) -> None:
        """Answer requests that are equal to earlier ones by what is kept of those; raises
        ConfigError for a model whose answers depend on more than a request, or are many."""
        reason = ""
        if self.signature.streams or self.config.model_transaction_policy.decoupled:
            reason = "with 'decoupled' transaction policy"
        elif self.config.sequence_batching is not None:
            reason = "with sequence batching scheduler"
        elif self.signature.sessions:
            reason = "which keeps state for each session"
        if reason:
            raise ConfigError(
                f"Response Cache does not currently support model {self.name} {reason}. Please "
                "disable the response cache.",
                field="response_cache.enable",
            )
        self.cache = AnswerCache(
            cache, lambda: self.identity, self.name, str(self.version), self.statistics, self._loop
        )

    @cached_property
    def _own_identity(self) -> bytes:
        spec = self.spec
        parts = (__version__, self.name, self.version, spec.backend, spec.trust, spec.fingerprint)
        return hashlib.sha256(repr((*parts, spec.config)).encode()).digest()

    @property
    def identity(self) -> bytes:
        """Which model it is, as its files and its configuration are now: what kept answers are
        found by."""
        return self._own_identity

    @property
    def made_of(self) -> frozenset[str]:
        """The names of all models that requests of it go through beside itself; those of an
        ensemble's steps."""
        return frozenset()

    def _place(self, request: InferenceRequest) -> int:
        """Which of the runners, and their queues, it is for: requests of a session all go the same
        way."""
        places = len(self._batchers)
        return zlib.crc32(request.session.encode()) % places if places > 1 else 0

    def took(self, item: QueuedRequest, parts: int) -> None:
        """So many parts of a request's stream have gone on to its client."""
        for runner in self._loaded.runners:
            runner.took(item, parts)

    def run_now(self, inputs: list[Array], rows: int, arrival_ns: int) -> list[Array] | None:
        """Run `rows` merged requests of one row each, valid for this model; see DynamicBatcher."""
        return self.batcher.run_now(inputs, rows, arrival_ns)

    def submit_riders(
        self, inputs: list[Array], rows: int, arrival_ns: int, on_done: OnDone
    ) -> QueuedRequest | None:
        """Queue `rows` merged requests of one row each, two or more and valid for this model, as
        one; None where that cannot be. `on_done` gets their joined answer, or an error, with which
        each of them has to come again by itself: nothing has been counted."""
        if not self.batcher.takes_riders or len(self._batchers) > 1 or not self.takes_riders:
            return None
        request = InferenceRequest(self.name, str(self.version), [])
        item = QueuedRequest(request, inputs, rows, (), None, on_done, arrival_ns, riders=rows)
        try:
            self.batcher.enqueue(item)
        except Overloaded:
            return None
        return item

    @property
    def takes_riders(self) -> bool:
        """Whether requests may come past the looks that each gets that comes by itself."""
        suspects = self._culprits is not None and self._culprits.any
        apart = self._loaded.says_more()
        return not (suspects or self._loaded.passive or self.trouble or apart)

    def runs_now(self, rows: int) -> bool:
        """Whether `run_now` would run so many rows at this moment."""
        return (
            self.batcher.runs_now
            and self.mergeable
            and not self.traced
            and len(self._batchers) == 1
            and self._loaded.runners[0].runs_now(rows)
        )

    @property
    def mergeable(self) -> bool:
        """Whether requests may be merged before they get here: where each is rows of a batch, and
        no answers are kept, which is by request."""
        layout = self.description.layout
        by_rows = layout is None or layout.by_rows
        return by_rows and self.cache is None and self.sequences is None

    @property
    def mergeable_by_steps(self) -> bool:
        """Whether requests of its sequences may be merged before they get here, each with its
        step."""
        sequences = self.sequences
        return sequences is not None and not sequences.iterative and not self.description.layout

    @property
    def traced(self) -> bool:
        """Whether requests are traced, for which each has to go its way by itself."""
        return self.batcher.trace.on

    def trace_to(self, trace: ModelTrace) -> None:
        """Tell of its requests while they are traced."""
        for batcher in self._batchers:
            batcher.trace = trace
        if self.cache is not None:
            self.cache.trace = trace

    @property
    def trouble(self) -> str:
        """Why all requests would fail now, if they would."""
        troubles = [runner.trouble for runner in self._loaded.runners]
        return troubles[0] if all(troubles) else ""

    def queue_depth(self) -> int:
        """Requests that wait."""
        return sum([batcher.waiting for batcher in self._batchers])

    def queue_depths(self) -> dict[int, int]:
        """Requests that wait, by priority; nothing without priorities."""
        depths: dict[int, int] = {}
        for batcher in self._batchers:
            for level, depth in batcher.queue_depths().items():
                depths[level] = depths.get(level, 0) + depth
        return depths

    def in_flight(self) -> int:
        """Requests accepted and not answered."""
        elsewhere = len(self.app or ()) + (len(self.cache) if self.cache is not None else 0)
        return sum([batcher.in_flight for batcher in self._batchers]) + elsewhere

    @property
    def metric_tags(self) -> Mapping[str, str]:
        """Labels of its own for all of its metrics, by name."""
        return self.config.metric_tags

    def active_sequences(self) -> int:
        """Sequences that have a slot of an instance."""
        return self.sequences.table.active if self.sequences is not None else 0

    def backlogged_sequences(self) -> int:
        """Sequences that wait for a slot."""
        return len(self.sequences.table.backlog) if self.sequences is not None else 0

    @property
    def says_ready(self) -> bool:
        """Whether the model says of itself that it is ready; one that is not is still asked."""
        return self._loaded.says_ready()

    @property
    def runs_one(self) -> bool:
        """Whether an instance runs one batch at a time."""
        return all(getattr(runner, "concurrency", 1) == 1 for runner in self._loaded.runners)

    def worker_restarts(self) -> int:
        """How often a worker process that had ended was started again."""
        return sum([runner.restarts for runner in self._loaded.runners])

    async def drain(self) -> None:
        """Wait until nothing is queued or running. New requests have been stopped."""
        if self.cache is not None:
            await self.cache.drain()
        for batcher in self._batchers:
            await batcher.drain()
        if self.app is not None:
            await self.app.drain()

    def close(self) -> None:
        """Give the memory back; blocks. Nothing may be queued or running."""
        for runner in self._loaded.runners:
            runner.close()
        self._loaded.close()
