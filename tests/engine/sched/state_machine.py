"""A scheduler in a small world that checks everything after every step.

The world keeps what a runner would have written into every slot of the cache, as the history of
tokens up to it, so that a block that is shared wrongly, or written over, is seen at once.
`PYTHONPATH=tests python -m engine.sched.state_machine --steps 20000` runs it by chance; hypothesis
runs it in `test_state_machine.py`.
"""

import argparse
import random
import sys
from collections import Counter
from dataclasses import dataclass, field

from inferd.engine.kv_cache.block_pool import Block
from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.output import SchedulerOutput
from inferd.engine.sched.scheduler import Scheduler, SchedulerState
from inferd.engine.sched.sequence import FINISHED, RUNNING, WAITING, Sequence
from inferd.engine.sched.step_time import StepCost, StepTime
from inferd.errors import InvalidRequest, Overloaded
from inferd.types.generation import GenerationRequest, SamplingParams

BLOCK = 4
VOCABULARY = 4
EOS = 3
TARGET_S = 0.05
COST = StepCost(10e-3, 1e-3, 1e-6, 1e-3, 1e-6)
UNWRITTEN = -1


@dataclass
class Shape:
    """What a world is made with."""

    num_blocks: int = 12
    caching: bool = True
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 24
    max_partial_prefills: int = 2
    min_prefill_chunk: int = 3
    watermark: float = 0.1


@dataclass
class Counts:
    """What has happened, over all worlds of a run."""

    worlds: int = 0
    rules: int = 0
    steps: int = 0
    tokens: int = 0
    requests: int = 0
    refused: int = 0
    overloaded: int = 0
    aborts: int = 0
    preemptions: int = 0
    hit_tokens: int = 0
    finished: int = 0
    slots_checked: int = 0


@dataclass
class World:
    """A scheduler, the cache that its steps write, and what must hold of both."""

    shape: Shape
    counts: Counts
    now_s: float = 0.0
    sequences: list[Sequence] = field(default_factory=list)
    """All that were ever taken in."""

    def __post_init__(self) -> None:
        shape = self.shape
        self.counts.worlds += 1
        self.kv_cache = KVCacheManager(shape.num_blocks, BLOCK, shape.caching, "model")
        options = SchedulerOptions(
            max_model_len=60,
            max_num_seqs=shape.max_num_seqs,
            max_num_batched_tokens=shape.max_num_batched_tokens,
            max_partial_prefills=shape.max_partial_prefills,
            min_prefill_chunk=shape.min_prefill_chunk,
            inter_token_target_s=TARGET_S,
            max_waiting_requests=12,
            max_waiting_prompt_tokens=200,
            watermark=shape.watermark,
        )
        self.scheduler = Scheduler(options, self.kv_cache, StepTime(COST), (EOS,))
        self.slots = [UNWRITTEN] * self.kv_cache.num_slots
        self._histories: dict[tuple[object, int], int] = {}
        self._chains: dict[int, list[int]] = {}
        self._next_id = 0

    # -- what can be done ------------------------------------------------------------------------

    def add(
        self, prompt: list[int], params: SamplingParams, priority: int, tenant: str, salt: str
    ) -> None:
        """A request comes."""
        request = GenerationRequest(
            id=f"r{self._next_id}",
            prompt_token_ids=prompt,
            params=params,
            priority=priority,
            tenant=tenant,
            cache_salt=salt,
            arrival_s=self.now_s,
        )
        sequences = [
            Sequence.from_request(request, index, self._next_id + index)
            for index in range(params.n)
        ]
        self._next_id += params.n
        before = self.scheduler.num_unfinished
        try:
            self.scheduler.add(*sequences)
        except InvalidRequest:
            assert len(prompt) >= self.scheduler.max_len
            self.counts.refused += 1
        except Overloaded as error:
            self.counts.overloaded += 1
            check_retry_after(error.retry_after_s)
        else:
            self.counts.requests += 1
            self.sequences += sequences
            return
        assert self.scheduler.num_unfinished == before

    def abort(self, which: int) -> None:
        """A caller leaves, early or late."""
        if self.sequences:
            self.scheduler.abort(self.sequences[which % len(self.sequences)].request_id)
            self.counts.aborts += 1

    def finish(self, which: int) -> None:
        """A stop string is found."""
        if self.sequences:
            sequence = self.sequences[which % len(self.sequences)]
            was_finished = sequence.status is FINISHED
            found = self.scheduler.finish(sequence.id, "stop", "END")
            assert (found is None) == was_finished

    def step(self, seed: int, slowness: float = 1.0, meanwhile: int | None = None) -> None:
        """A step is run; `meanwhile` a request is aborted before its result is there."""
        self.now_s += 0.01
        before = dict(self.scheduler.running)
        decoding = [s for s in before.values() if s.num_left == 1]
        output = self.scheduler.schedule(self.now_s)
        self._check_output(output, before, decoding)
        self._write(output)
        if meanwhile is not None:
            self.abort(meanwhile)
        source = random.Random(seed)
        sampled = {
            e.sequence.id: source.randrange(VOCABULARY) for e in output.sequences if e.samples
        }
        true_s = COST[0] + sum(c * x for c, x in zip(COST[1:], output.load, strict=True))
        finished = self.scheduler.update(output, sampled, self.now_s, true_s * slowness)
        assert all(end.sequence.status is FINISHED for end in finished)
        self.counts.steps += bool(output.sequences)
        self.counts.tokens += output.num_tokens
        self.counts.preemptions += len(output.preempted)
        self.counts.finished += len(finished)

    def run_to_the_end(self) -> None:
        """Arrivals have stopped: every sequence ends, and nothing is left."""
        self.scheduler.resume()
        known = 60 * sum(s.status is not FINISHED for s in self.sequences)
        most = 20 * known + 10  # an end comes long before, even with many preemptions
        for seed in range(most):
            if not self.scheduler.has_work:
                break
            self.step(seed)
            self.check()
        assert not self.scheduler.has_work
        waiting, pool = self.scheduler.waiting, self.kv_cache.pool
        assert pool.num_free == pool.num_blocks
        assert (len(waiting), waiting.num_requests, waiting.prompt_tokens) == (0, 0, 0)
        assert self.kv_cache.unused_slots == 0
        for sequence in self.sequences:
            assert sequence.status is FINISHED
            assert sequence.finish_reason in ("stop", "length", "abort")
        self.counts.hit_tokens += self.kv_cache.hits

    # -- what must hold --------------------------------------------------------------------------

    def check(self) -> None:
        """Whatever was done last: blocks, counts, queues and contents agree."""
        self.counts.rules += 1
        running = list(self.scheduler.running.values())
        alive = [s for s in self.sequences if s.status is not FINISHED]
        waiting = [s for s in alive if s.status is WAITING]
        assert len(running) <= self.shape.max_num_seqs
        assert {s.id for s in running} == {s.id for s in alive if s.status is RUNNING}
        assert len(waiting) == len(self.scheduler.waiting)
        assert len(alive) == self.scheduler.num_unfinished
        for sequence in self.sequences:
            if sequence.status is not RUNNING:
                assert not sequence.block_table
                assert not sequence.num_computed_tokens
        self._check_blocks(running)
        for sequence in running:
            assert sequence.num_left > 0
            self._check_contents(sequence, sequence.num_computed_tokens)

    def _check_blocks(self, running: list[Sequence]) -> None:
        pool = self.kv_cache.pool
        held = Counter(id for sequence in running for id in sequence.block_table)
        for sequence in running:
            assert len(set(sequence.block_table)) == len(sequence.block_table)
        for block in pool.blocks:
            assert block.ref_count == held[block.id]
            assert not block.hash or pool.lookup(block.hash) is block
            assert not block.hash or block.ref_count or pool.enable_caching
        free = free_blocks(pool.blocks)
        assert len(free) == pool.num_free == pool.num_blocks - len(held)
        assert {block.id for block in free}.isdisjoint(held)
        assert pool.num_cached == sum(bool(block.hash) for block in pool.blocks)
        unused = sum(len(s.block_table) * BLOCK - s.num_computed_tokens for s in running)
        assert self.kv_cache.unused_slots == unused
        assert unused <= len(running) * (BLOCK - 1)

    def _check_contents(self, sequence: Sequence, num_tokens: int) -> None:
        chain = self._chain(sequence)
        table = sequence.block_table
        for position in range(num_tokens):
            slot = table[position // BLOCK] * BLOCK + position % BLOCK
            assert self.slots[slot] == chain[position]
        self.counts.slots_checked += num_tokens

    def _check_output(
        self, output: SchedulerOutput, before: dict[int, Sequence], decoding: list[Sequence]
    ) -> None:
        scheduler, shape = self.scheduler, self.shape
        entries = {entry.sequence.id: entry for entry in output.sequences}
        assert len(entries) == len(output.sequences)
        if scheduler.state is SchedulerState.PAUSED:
            assert not entries
            return
        assert entries or output.preempted or not scheduler.num_unfinished
        for sequence in decoding:
            assert sequence.id in entries or sequence.id in output.preempted
        for entry in output.sequences:
            sequence = entry.sequence
            assert sequence.status is RUNNING
            assert entry.start == sequence.num_computed_tokens
            end = entry.start + entry.num_tokens
            assert entry.start < end <= len(sequence.tokens)
            assert end <= len(sequence.block_table) * BLOCK
            at_end = end == len(sequence.tokens)
            assert entry.samples == (at_end and sequence.params.max_tokens != 0)
        assert output.num_tokens == sum(e.num_tokens for e in output.sequences)
        assert output.num_tokens <= shape.max_num_batched_tokens
        self._check_budgets(output, {s.id for s in decoding})
        if output.preempted:
            assert scheduler.running.keys() <= before.keys()
            best = min(badness(before[id]) for id in output.preempted)
            assert all(badness(s) < best for s in scheduler.running.values())

    def _check_budgets(self, output: SchedulerOutput, decoding: set[int]) -> None:
        """No more prompts in part than allowed, and with decode rows no more time than that."""
        scheduler, shape = self.scheduler, self.shape
        entries = {entry.sequence.id: entry for entry in output.sequences}
        partial = 0
        for sequence in scheduler.running.values():
            entry = entries.get(sequence.id)
            partial += sequence.num_left > (entry.num_tokens if entry else 0)
        assert partial <= shape.max_partial_prefills
        if decoding & entries.keys():
            prompts = [e.num_tokens for e in output.sequences if e.sequence.id not in decoding]
            least = len(prompts) <= 1 and sum(prompts) <= shape.min_prefill_chunk
            # A prompt's chunk of one token is predicted as a prompt's and counted as a row.
            single = sum(num_tokens == 1 for num_tokens in prompts)
            slack_s = single * (scheduler.step_time.cost.decode_row_s + 1e-3)
            predicted_s = scheduler.step_time.predict(output.load)
            assert least or predicted_s <= TARGET_S * 1.001 + slack_s

    # -- the cache that a runner would write -----------------------------------------------------

    def _write(self, output: SchedulerOutput) -> None:
        for entry in output.sequences:
            sequence, table = entry.sequence, entry.sequence.block_table
            chain = self._chain(sequence)
            for position in range(entry.start, entry.start + entry.num_tokens):
                block = table[position // BLOCK]
                assert self.kv_cache.pool.blocks[block].ref_count == 1
                self.slots[block * BLOCK + position % BLOCK] = chain[position]
        for entry in output.sequences:
            self._check_contents(entry.sequence, entry.start + entry.num_tokens)

    def _chain(self, sequence: Sequence) -> list[int]:
        """A number for each position: equal for equal histories that may be shared."""
        chain = self._chains.setdefault(sequence.id, [])
        owner = sequence.cache_salt if self.shape.caching else sequence.request_id
        for token in sequence.tokens[len(chain) :]:
            before: object = chain[-1] if chain else owner
            chain.append(self._histories.setdefault((before, token), len(self._histories)))
        return chain


def free_blocks(blocks: list[Block]) -> list[Block]:
    """The ring of free blocks, walked from any of them; empty when none is free."""
    start = next((block for block in blocks if block.next is not None), None)
    ring: list[Block] = []
    block = start
    while block is not None and (block is not start or not ring):
        assert block.next is not None
        assert block.next.prev is block
        ring.append(block)
        block = block.next
    return [block for block in ring if block.id >= 0]


def check_retry_after(seconds: float) -> None:
    """A caller comes back soon enough, and not at once."""
    assert 1.0 <= seconds <= 60.0


def badness(sequence: Sequence) -> tuple[int, float, int]:
    """The worst is preempted first."""
    return (sequence.priority, sequence.arrival_s, sequence.id)


# -- by chance ---------------------------------------------------------------------------------

PREFIXES = [[0] * 24, [1, 2] * 12, [0] * 9 + [2] * 15]


def random_shape(source: random.Random) -> Shape:
    """Small pools are the point: they make for preemption."""
    return Shape(
        num_blocks=source.randint(4, 24),
        caching=source.random() < 0.75,
        max_num_seqs=source.randint(1, 8),
        max_num_batched_tokens=source.choice([8, 13, 24, 64]),
        max_partial_prefills=source.randint(1, 4),
        min_prefill_chunk=source.randint(1, 8),
        watermark=source.choice([0.0, 0.1, 0.3]),
    )


def random_request(world: World, source: random.Random) -> None:
    """A prompt with a known beginning, more often than not."""
    prompt = source.choice(PREFIXES)[: source.choice([0, 4, 8, 10, 16, 24])]
    prompt = prompt + source.choices(range(VOCABULARY), k=source.randint(1, 12))
    params = SamplingParams(
        n=source.choice([1, 1, 1, 2, 4]),
        max_tokens=source.choice([None, 0, 1, 5, 20, 40, 40]),
        min_tokens=source.choice([0, 0, 8]),
        ignore_eos=source.random() < 0.85,
        stop_token_ids=source.choice([(), (), (), (), (), (2,)]),
        prompt_logprobs=source.choice([None, None, None, 1]),
    )
    world.add(
        prompt, params, source.randint(0, 2), source.choice("abc"), source.choice(["", "", "s"])
    )


def run_steps(num_steps: int, seed: int = 0) -> Counts:
    """Run worlds by chance until they have made so many steps together."""
    counts = Counts()
    source = random.Random(seed)
    while counts.steps < num_steps:
        world = World(random_shape(source), counts)
        for _ in range(200):
            what = source.random()
            if what < 0.25:
                random_request(world, source)
            elif what < 0.28:
                world.abort(source.randrange(1000))
            elif what < 0.30:
                world.finish(source.randrange(1000))
            elif what < 0.32:
                world.scheduler.pause()
            elif what < 0.36:
                world.scheduler.resume()
            else:
                meanwhile = source.randrange(1000) if source.random() < 0.05 else None
                world.step(source.randrange(1 << 30), source.choice([1.0, 1.1, 0.9]), meanwhile)
            world.check()
        world.run_to_the_end()
    return counts


def main(arguments: list[str]) -> None:
    """Run and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    counts = run_steps(options.steps, options.seed)
    for name, value in vars(counts).items():
        print(f"{name.replace('_', ' '):14} {value:>10,}")


if __name__ == "__main__":
    main(sys.argv[1:])
