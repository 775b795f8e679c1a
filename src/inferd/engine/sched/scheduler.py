"""The scheduler: which sequences get how many tokens in the next step.

There is no prefill phase and no decode phase. Each sequence has computed tokens that chase its
known ones; a step is filled within a budget of time. Pure: it refuses to know tensors and clocks.
"""

from collections.abc import Mapping
from enum import Enum

from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sched.ending import find_ending
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.output import Finished, SchedulerOutput
from inferd.engine.sched.sequence import FINISHED, RUNNING, Sequence
from inferd.engine.sched.step import StepPlan
from inferd.engine.sched.step_time import StepLoad, StepTime
from inferd.engine.sched.waiting import WaitingQueue
from inferd.errors import InvalidRequest, Overloaded
from inferd.types.generation import FinishReason


class SchedulerState(Enum):
    """Paused: takes in and runs nothing. Draining: runs and takes nothing in."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"


class Scheduler:
    """Decides over the sequences of one model. Call `schedule`, run the step, call `update`;
    anything else may be called in between."""

    def __init__(
        self,
        options: SchedulerOptions,
        kv_cache: KVCacheManager,
        step_time: StepTime,
        eos_token_ids: tuple[int, ...] = (),
    ) -> None:
        self.options = options
        self.kv_cache = kv_cache
        self.step_time = step_time
        self.state = SchedulerState.RUNNING
        self.waiting = WaitingQueue(
            options.max_waiting_requests, options.max_waiting_prompt_tokens, self._drain_s
        )
        self.running: dict[int, Sequence] = {}
        """By id, in order of admission."""
        self.max_len = min(options.max_model_len, kv_cache.num_slots)
        """Tokens of the longest sequence that can be had, prompt and output together."""
        self.num_preemptions = 0
        self._eos_ids = frozenset(eos_token_ids)
        self._requests: dict[str, dict[int, Sequence]] = {}
        """The sequences that have not finished, by request and by id."""
        self._sequences: dict[int, Sequence] = {}

    # -- in and out ------------------------------------------------------------------------------

    def add(self, *sequences: Sequence) -> None:
        """Take in the sequences of one request, all or none.

        Raises InvalidRequest for what could never run, Overloaded when the queue is full or the
        scheduler drains.
        """
        first = sequences[0]
        if self.state is SchedulerState.DRAINING:
            raise Overloaded("the model is being unloaded and takes no new requests")
        if not first.tokens:
            raise InvalidRequest("prompt: it has no tokens; give it at least one")
        if first.num_prompt_tokens >= self.max_len:
            raise InvalidRequest(
                f"prompt: this model's maximum context length is {self.max_len} tokens, and the "
                f"prompt has {first.num_prompt_tokens}; shorten it to {self.max_len - 1} or less"
            )
        if first.request_id in self._requests:
            raise InvalidRequest(f"request_id: {first.request_id!r} is in use; choose another")
        self.waiting.push(sequences)
        for sequence in sequences:
            self.kv_cache.prepare(sequence)
            self._sequences[sequence.id] = sequence
        self._requests[first.request_id] = {sequence.id: sequence for sequence in sequences}

    def abort(self, request_id: str) -> list[Sequence]:
        """End all sequences of a request at once; those that had not ended. Harmless after it."""
        sequences = list(self._requests.get(request_id, {}).values())
        for sequence in sequences:
            self._end(sequence, "abort", None)
        return sequences

    def finish(
        self, sequence_id: int, reason: FinishReason, stop_reason: str | int | None = None
    ) -> Sequence | None:
        """End one sequence for a reason found elsewhere, a stop string for instance. None when it
        had ended already."""
        sequence = self._sequences.get(sequence_id)
        if sequence is not None:
            self._end(sequence, reason, stop_reason)
        return sequence

    def pause(self) -> None:
        """Run nothing until `resume`; what runs keeps its blocks."""
        self.state = SchedulerState.PAUSED

    def drain(self) -> None:
        """Take nothing in any more, and run what is there to its end."""
        self.state = SchedulerState.DRAINING

    def resume(self) -> None:
        """Run and take in again."""
        self.state = SchedulerState.RUNNING

    @property
    def has_work(self) -> bool:
        """Whether a call of `schedule` gets something done."""
        return bool(self._sequences) and self.state is not SchedulerState.PAUSED

    @property
    def num_unfinished(self) -> int:
        """Sequences that wait or run."""
        return len(self._sequences)

    # -- a step ----------------------------------------------------------------------------------

    def schedule(self, now_s: float) -> SchedulerOutput:
        """The next step. It may be empty although there is work, when all that ran was preempted
        for want of blocks: then the next one is not."""
        if self.state is SchedulerState.PAUSED or not self._sequences:
            return SchedulerOutput()
        plan = StepPlan(
            self.options, self.kv_cache, self.step_time, self.waiting, self.running, now_s
        )
        output = plan.fill()
        self.num_preemptions += len(output.preempted)
        return output

    def update(
        self, output: SchedulerOutput, sampled: Mapping[int, int], now_s: float, step_s: float
    ) -> list[Finished]:
        """Note that a step has run for `step_s` seconds, and what was sampled: a token by sequence
        id, for every entry that `samples`. Returns the sequences that ended with it.

        What was ended since `schedule` is passed over.
        """
        if not output.sequences:
            return []
        self.step_time.observe(output.load, step_s)
        finished = []
        for entry in output.sequences:
            sequence = entry.sequence
            if sequence.status is not RUNNING:
                continue
            self.kv_cache.computed(sequence, entry.num_tokens)
            if entry.samples:
                sequence.tokens.append(sampled[sequence.id])
                if sequence.first_token_s is None:
                    sequence.first_token_s = now_s
                self.waiting.charge(sequence, 1)
            elif sequence.num_left:
                continue
            ending = find_ending(sequence, self._eos_ids, self.max_len)
            if ending is not None:
                self._end(sequence, *ending)
                finished.append(Finished(sequence, *ending))
        return finished

    # -- parts -----------------------------------------------------------------------------------

    def _end(self, sequence: Sequence, reason: FinishReason, stop_reason: str | int | None) -> None:
        """The one place where a sequence ends."""
        if sequence.status is RUNNING:
            del self.running[sequence.id]
            self.kv_cache.free(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.status = FINISHED
        sequence.finish_reason = reason
        sequence.stop_reason = stop_reason
        del self._sequences[sequence.id]
        siblings = self._requests[sequence.request_id]
        del siblings[sequence.id]
        if not siblings:
            del self._requests[sequence.request_id]

    def _drain_s(self, prompt_tokens: int) -> float:
        """Seconds until so many prompt tokens are computed beside what decodes now."""
        rows = [s.num_computed_tokens for s in self.running.values() if s.num_left == 1]
        load = StepLoad(decode_rows=len(rows), kv_tokens=sum(rows))
        chunk = self.options.max_num_batched_tokens
        step_s = self.step_time.predict(load)
        if rows:
            fitting = self.step_time.prefill_tokens_in(
                self.options.inter_token_target_s - step_s, 0
            )
            chunk = min(chunk, max(self.options.min_prefill_chunk, fitting))
        step_s += self.step_time.predict_prefill(0, chunk)
        return min(max(prompt_tokens / chunk * step_s, 1.0), 60.0)
