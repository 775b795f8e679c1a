"""The EngineCore: scheduler, runner and sampler of one model, a step at a time.

One thread calls it. It refuses to know text, threads and clients: tokens in, tokens out.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferd.engine.batch import input_batch
from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sample.logprobs import token_logprobs
from inferd.engine.sample.row import SamplingRow
from inferd.engine.sample.sampler import Sampler
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.output import ScheduledSequence, SchedulerOutput
from inferd.engine.sched.scheduler import Scheduler
from inferd.engine.sched.sequence import Sequence
from inferd.engine.sched.step_time import StepTime
from inferd.engine.worker.base import ModelRunner
from inferd.errors import InferdError
from inferd.types.generation import FinishReason, GenerationRequest, TokenLogprobs


class SequenceUpdate(msgspec.Struct, array_like=True, eq=False):
    """What a step did for one sequence: at most one token, its end, or why it failed."""

    request_id: str
    sequence_id: int
    index: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_cached_tokens: int = 0
    queue_s: float | None = None
    error: InferdError | None = None


@dataclass(slots=True)
class CoreCounts:
    """What has been done since the start."""

    steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    step_s: float = 0.0
    """Seconds in the runner."""
    python_s: float = 0.0
    """Seconds in steps and not in the runner."""


@dataclass(slots=True, eq=False)
class _Active:
    """A sequence's sampler state, and the scores of its prompt so far."""

    row: SamplingRow
    prompt_logprobs: list[TokenLogprobs | None] = field(default_factory=list)


class EngineCore:
    """Takes requests in, gives updates out. Times are `clock`'s."""

    def __init__(
        self, runner: ModelRunner, vocab_size: int, eos_token_ids: tuple[int, ...],
        options: SchedulerOptions, enable_prefix_caching: bool = True, fingerprint: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.runner = runner
        self.kv_cache = KVCacheManager(
            runner.num_blocks, runner.block_size, enable_prefix_caching, fingerprint
        )
        self.scheduler = Scheduler(options, self.kv_cache, StepTime(), eos_token_ids)
        self.counts = CoreCounts()
        self._sampler = Sampler(vocab_size)
        self._vocab_size = vocab_size
        self._eos = eos_token_ids
        self._active: dict[int, _Active] = {}
        self._ids = itertools.count()
        self._clock = clock

    # -- in --------------------------------------------------------------------------------------

    def add(self, request: GenerationRequest) -> list[Sequence]:
        """Take in a request, checked already; raises InvalidRequest or Overloaded."""
        sequences = [
            Sequence.from_request(request, index, next(self._ids))
            for index in range(request.params.n)
        ]
        rows = [
            SamplingRow(
                request.params, self._vocab_size, prompt_token_ids=request.prompt_token_ids,
                eos_token_ids=self._eos, index=index,
            )
            for index in range(request.params.n)
        ]  # fmt: skip
        self.scheduler.add(*sequences)
        for sequence, row in zip(sequences, rows, strict=True):
            self._active[sequence.id] = _Active(row)
        return sequences

    def abort(self, request_id: str) -> None:
        """Forget a request; its blocks are free at once. Harmless after its end."""
        for sequence in self.scheduler.abort(request_id):
            self._active.pop(sequence.id, None)

    def finish(self, sequence_id: int) -> None:
        """A stop string was found in the sequence's text."""
        if self.scheduler.finish(sequence_id, "stop") is not None:
            self._active.pop(sequence_id, None)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do something."""
        return self.scheduler.has_work

    # -- a step ----------------------------------------------------------------------------------

    def step(self) -> list[SequenceUpdate]:
        """Run one step; what it brought, for sequences that had not been ended before."""
        start_s = self._clock()
        output = self.scheduler.schedule(start_s)
        if not output.sequences:
            return []
        batch = input_batch(output.sequences, self.runner.block_size)
        run_s = self._clock()
        logits = self.runner.run(batch)
        ran_s = self._clock()
        updates = self._sample(output, logits)
        end_s = self._clock()
        self._finish(output, updates, end_s, ran_s - run_s)
        counts = self.counts
        counts.steps += 1
        counts.prompt_tokens += output.load.prefill_tokens
        counts.step_s += ran_s - run_s
        counts.python_s += self._clock() - start_s - (ran_s - run_s)
        return [update for update in updates.values() if _says_something(update)]

    def _sample(
        self, output: SchedulerOutput, logits: NDArray[np.float32]
    ) -> dict[int, SequenceUpdate]:
        """Tokens for all entries that sample; updates by sequence id."""
        updates: dict[int, SequenceUpdate] = {}
        sampling: list[ScheduledSequence] = []
        picked: list[int] = []
        row = 0
        for entry in output.sequences:
            sequence = entry.sequence
            updates[sequence.id] = SequenceUpdate(
                sequence.request_id, sequence.id, sequence.index, [],
                num_cached_tokens=sequence.num_cached_tokens,
            )  # fmt: skip
            count = 1 if entry.samples else 0
            if sequence.skips_cache:
                count = entry.num_tokens
                try:
                    self._score(entry, logits[row : row + count])
                except InferdError as error:  # no probabilities: this request's misfortune alone
                    updates[sequence.id].error = error
            if entry.samples:
                if not sequence.num_output_tokens and sequence.first_scheduled_s is not None:
                    updates[sequence.id].queue_s = sequence.first_scheduled_s - sequence.arrival_s
                sampling.append(entry)
                picked.append(row + count - 1)
            row += count
        if not sampling:
            return updates
        rows = [self._active[entry.sequence.id].row for entry in sampling]
        whole = len(picked) == len(logits)
        sampled = self._sampler.sample(logits if whole else logits[picked], rows)
        for number, entry in enumerate(sampling):
            update = updates[entry.sequence.id]
            update.token_ids = [int(sampled.token_ids[number])]
            update.error = update.error or sampled.failed.get(number)
            if sampled.logprobs is not None:
                found = sampled.logprobs[number]
                update.logprobs = None if found is None else [found]
        return updates

    def _score(self, entry: ScheduledSequence, logits: NDArray[np.float32]) -> None:
        """Log probabilities of the prompt tokens that follow those of this entry."""
        sequence = entry.sequence
        active = self._active[sequence.id]
        asked = sequence.params.prompt_logprobs
        following = sequence.tokens[entry.start + 1 : entry.start + entry.num_tokens + 1]
        if not active.prompt_logprobs:
            active.prompt_logprobs.append(None)
        top = self._vocab_size if asked == -1 else asked or 0
        active.prompt_logprobs += token_logprobs(logits[: len(following)], following, top)

    def _finish(
        self, output: SchedulerOutput, updates: dict[int, SequenceUpdate], now_s: float,
        run_s: float,
    ) -> None:  # fmt: skip
        """Tell the scheduler, and the updates what ended."""
        for update in updates.values():
            if update.error is not None:
                update.token_ids = []
                update.finish_reason = "error"
                self.scheduler.finish(update.sequence_id, "error")
        sampled = {u.sequence_id: u.token_ids[0] for u in updates.values() if u.token_ids}
        self.counts.generation_tokens += len(sampled)
        for finished in self.scheduler.update(output, sampled, now_s, run_s):
            update = updates[finished.sequence.id]
            update.finish_reason, update.stop_reason = finished.reason, finished.stop_reason
        for update in updates.values():
            active = self._active[update.sequence_id]
            scored = active.prompt_logprobs
            if scored and (update.token_ids or update.finish_reason):
                update.prompt_logprobs, active.prompt_logprobs = scored, []
            if update.finish_reason is not None:
                del self._active[update.sequence_id]


def _says_something(update: SequenceUpdate) -> bool:
    return bool(update.token_ids) or update.finish_reason is not None
