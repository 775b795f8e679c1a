"""A step while it is being filled: decode rows first, then who comes new, then prompts in the time
that is left. Pure: it refuses to know what comes of the step.
"""

import math

from inferd.engine.kv_cache.block_pool import Block
from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sched.budget import PrefillBudget
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.output import ScheduledSequence, SchedulerOutput
from inferd.engine.sched.sequence import RUNNING, WAITING, Sequence
from inferd.engine.sched.step_time import StepLoad, StepTime, prefill_pairs
from inferd.engine.sched.waiting import WaitingQueue

_AGEING = 0.25
"""A prompt that has waited for a second goes before one with so many seconds less to compute."""
_MOST_DEFERRED = 32
"""Sequences that one step passes over because another computes their prefix."""


class StepPlan:
    """One step. Moves sequences between `waiting` and `running`, and gives them blocks."""

    def __init__(
        self,
        options: SchedulerOptions,
        kv_cache: KVCacheManager,
        step_time: StepTime,
        waiting: WaitingQueue,
        running: dict[int, Sequence],
        now_s: float,
    ) -> None:
        self.options = options
        self.kv_cache = kv_cache
        self.step_time = step_time
        self.waiting = waiting
        self.running = running
        self.now_s = now_s
        self.entries: dict[int, ScheduledSequence] = {}
        self.preempted: list[int] = []

    def fill(self) -> SchedulerOutput:
        """Decode rows first, then who comes new, then prompts in what time is left."""
        prefills = self._decode()
        budget = self._prefill_budget()
        if not self.preempted:
            self._admit(prefills, budget)
        self._prefill(prefills, budget)
        return SchedulerOutput(list(self.entries.values()), self._load(), self.preempted)

    def _decode(self) -> list[Sequence]:
        """Give every sequence with one token left that token; return those with more left."""
        prefills = []
        for sequence in list(self.running.values()):
            if sequence.num_left > 1:
                prefills.append(sequence)
            elif sequence.status is RUNNING and self._hold_blocks(sequence, 1):
                self._enter(sequence, 1)
        return [sequence for sequence in prefills if sequence.status is RUNNING]

    def _prefill_budget(self) -> PrefillBudget:
        load = self._load()
        seconds = math.inf
        if load.decode_rows:
            seconds = self.options.inter_token_target_s - self.step_time.predict(load)
        tokens = self.options.max_num_batched_tokens - load.decode_rows
        return PrefillBudget(self.step_time, tokens, seconds, self.options.min_prefill_chunk)

    # -- admission -------------------------------------------------------------------------------

    def _admit(self, prefills: list[Sequence], budget: PrefillBudget) -> None:
        """Move sequences from the queue to `prefills`, in the queue's order, until one does not
        fit. One whose prefix is being computed now is passed over and keeps its place."""
        deferred: list[Sequence] = []
        while len(self.running) < self.options.max_num_seqs and len(deferred) < _MOST_DEFERRED:
            sequence = self.waiting.peek()
            if sequence is None:
                break
            cached = self.kv_cache.lookup(sequence)
            if self._computed_by_another(sequence, len(cached), prefills):
                self.waiting.take(sequence)
                deferred.append(sequence)
                continue
            if not self.kv_cache.can_admit(sequence, cached, self._spare_blocks(prefills)):
                break
            if not self._gets_on(sequence, len(cached), prefills, budget):
                break
            self._start(sequence, cached)
            prefills.append(sequence)
        for sequence in reversed(deferred):
            self.waiting.put_back(sequence)

    def _start(self, sequence: Sequence, cached: list[Block]) -> None:
        self.waiting.take(sequence)
        self.kv_cache.admit(sequence, cached)
        sequence.status = RUNNING
        self.running[sequence.id] = sequence
        if sequence.first_scheduled_s is None:
            sequence.first_scheduled_s = self.now_s
            sequence.num_cached_tokens = sequence.num_computed_tokens
            self.waiting.charge(sequence, sequence.num_left)

    def _computed_by_another(
        self, sequence: Sequence, num_cached: int, prefills: list[Sequence]
    ) -> bool:
        """Whether the first block that is not cached is about to be: then waiting is cheaper.

        Only for one that is at least as urgent, or who waits could be held up by who is not.
        """
        if num_cached >= self.kv_cache.num_findable_blocks(sequence):
            return False
        digest = sequence.block_hashes[num_cached]
        end = (num_cached + 1) * self.kv_cache.block_size
        return any(
            num_cached < len(other.block_hashes)
            and other.block_hashes[num_cached] == digest
            and other.num_computed_tokens < end
            and other.priority <= sequence.priority
            for other in prefills
        )

    def _spare_blocks(self, prefills: list[Sequence]) -> int:
        """Blocks that an admission must leave: those that admitted prompts were promised and have
        not taken yet, and a few for what decodes."""
        if not self.running:
            return 0
        promised = sum(
            self.kv_cache.num_blocks_for(len(s.tokens)) - len(s.block_table) for s in prefills
        )
        return promised + math.ceil(self.options.watermark * self.kv_cache.num_blocks)

    def _gets_on(
        self,
        sequence: Sequence,
        num_cached: int,
        prefills: list[Sequence],
        budget: PrefillBudget,
    ) -> bool:
        """Whether no more than `max_partial_prefills` are left unfinished by this step with it."""
        if len(prefills) < self.options.max_partial_prefills:
            return True
        trial = budget.copy()
        starts = {sequence.id: num_cached * self.kv_cache.block_size}
        unfinished = 0
        for other in self._by_urgency([*prefills, sequence], starts):
            start = starts.get(other.id, other.num_computed_tokens)
            left = len(other.tokens) - start
            chunk = trial.chunk(start, left)
            trial.spend(start, chunk)
            unfinished += chunk < left
        return unfinished <= self.options.max_partial_prefills

    # -- prefill ---------------------------------------------------------------------------------

    def _prefill(self, prefills: list[Sequence], budget: PrefillBudget) -> None:
        for sequence in self._by_urgency(prefills, {}):
            start = sequence.num_computed_tokens
            chunk = budget.chunk(start, sequence.num_left)
            if not chunk:
                continue
            if sequence.status is RUNNING and self._hold_blocks(sequence, chunk):
                self._enter(sequence, chunk)
                budget.spend(start, chunk)

    def _by_urgency(self, prefills: list[Sequence], starts: dict[int, int]) -> list[Sequence]:
        """By priority, then shortest remaining first, in seconds, with ageing."""
        predict = self.step_time.predict_prefill

        def urgency(sequence: Sequence) -> tuple[int, float, int]:
            start = starts.get(sequence.id, sequence.num_computed_tokens)
            left_s = predict(start, len(sequence.tokens) - start)
            return (sequence.priority, left_s + _AGEING * sequence.arrival_s, sequence.id)

        return sorted(prefills, key=urgency)

    # -- blocks and entries ----------------------------------------------------------------------

    def _hold_blocks(self, sequence: Sequence, num_tokens: int) -> bool:
        """Have blocks for the next tokens, at the cost of the worst that runs, which may be the
        sequence itself: then False."""
        while not self.kv_cache.allocate(sequence, num_tokens):
            worst = max(self.running.values(), key=_badness)
            self._preempt(worst)
            if worst is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.entries.pop(sequence.id, None)
        del self.running[sequence.id]
        self.kv_cache.free(sequence)
        sequence.status = WAITING
        sequence.num_preemptions += 1
        self.waiting.push_preempted(sequence)
        self.preempted.append(sequence.id)

    def _enter(self, sequence: Sequence, num_tokens: int) -> None:
        start = sequence.num_computed_tokens
        at_end = start + num_tokens == len(sequence.tokens)
        samples = at_end and sequence.params.max_tokens != 0
        self.entries[sequence.id] = ScheduledSequence(sequence, num_tokens, start, samples)

    def _load(self) -> StepLoad:
        tokens = pairs = rows = kv_tokens = 0
        for entry in self.entries.values():
            if entry.num_tokens == 1:
                rows += 1
                kv_tokens += entry.start + 1
            else:
                tokens += entry.num_tokens
                pairs += prefill_pairs(entry.start, entry.num_tokens)
        return StepLoad(tokens, pairs, rows, kv_tokens)


def _badness(sequence: Sequence) -> tuple[int, float, int]:
    return (sequence.priority, sequence.arrival_s, sequence.id)
