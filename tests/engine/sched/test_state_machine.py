"""Whatever comes, in whatever order: no block is leaked, shared wrongly or freed twice, and every
sequence ends."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from engine.sched.state_machine import PREFIXES, VOCABULARY, Counts, Shape, World, run_steps
from inferd.types.generation import SamplingParams

COUNTS = Counts()

shapes = st.builds(
    Shape,
    num_blocks=st.integers(3, 20),
    caching=st.booleans(),
    max_num_seqs=st.integers(1, 8),
    max_num_batched_tokens=st.sampled_from([8, 13, 24, 64]),
    max_partial_prefills=st.integers(1, 4),
    min_prefill_chunk=st.integers(1, 8),
    watermark=st.sampled_from([0.0, 0.1, 0.3]),
)
prompts = st.builds(
    lambda prefix, length, tail: prefix[:length] + tail,
    st.sampled_from(PREFIXES),
    st.integers(0, 24),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20),
)
params = st.builds(
    SamplingParams,
    n=st.sampled_from([1, 1, 2, 4]),
    max_tokens=st.sampled_from([None, 0, 1, 5, 20, 40]),
    min_tokens=st.sampled_from([0, 8]),
    ignore_eos=st.booleans(),
    stop_token_ids=st.sampled_from([(), (2,)]),
    prompt_logprobs=st.sampled_from([None, None, 1]),
)


class SchedulerMachine(RuleBasedStateMachine):
    """Rules are what callers and the step loop do; `World` knows what must hold."""

    world: World | None = None

    @initialize(shape=shapes)
    def begin(self, shape: Shape) -> None:
        self.world = World(shape, COUNTS)

    @rule(
        prompt=prompts,
        params=params,
        priority=st.integers(0, 2),
        tenant=st.sampled_from("abc"),
        salt=st.sampled_from(["", "s"]),
    )
    def add(
        self, prompt: list[int], params: SamplingParams, priority: int, tenant: str, salt: str
    ) -> None:
        self.world.add(prompt, params, priority, tenant, salt)

    @rule(
        count=st.integers(1, 5),
        seed=st.integers(0, 1 << 20),
        slowness=st.sampled_from([1.0, 0.9, 1.1]),
        meanwhile=st.none() | st.integers(0, 50),
    )
    def step(self, count: int, seed: int, slowness: float, meanwhile: int | None) -> None:
        for i in range(count):
            self.world.step(seed + i, slowness, meanwhile if i == 0 else None)
            self.world.check()

    @rule(which=st.integers(0, 50))
    def abort(self, which: int) -> None:
        self.world.abort(which)

    @rule(which=st.integers(0, 50))
    def finish(self, which: int) -> None:
        self.world.finish(which)

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        if paused:
            self.world.scheduler.pause()
        else:
            self.world.scheduler.resume()

    @invariant()
    def everything_agrees(self) -> None:
        if self.world is not None:
            self.world.check()

    def teardown(self) -> None:
        if self.world is not None:
            self.world.run_to_the_end()


def test_histories_that_hypothesis_writes() -> None:
    run_state_machine_as_test(
        SchedulerMachine,
        settings=settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=30),
    )
    assert COUNTS.steps > 1000
    assert COUNTS.preemptions > 0
    assert COUNTS.hit_tokens > 0


def test_histories_by_chance() -> None:
    counts = run_steps(1500)
    assert counts.steps >= 1500
    assert min(vars(counts).values()) > 0
