"""How much of what sequences hold of the cache is unused, with the blocks that the engine has."""

import random

from engine.sched.sequences import EOS, make, run
from inferd.engine.kernels.elementwise import BLOCK
from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.sched.scheduler import Scheduler
from inferd.engine.sched.step_time import StepTime

STEPS = 1500
AT_ONCE = 32


def test_under_4_percent_is_wasted_at_steady_load() -> None:
    source = random.Random(3)
    options = SchedulerOptions(max_model_len=2048, max_num_seqs=AT_ONCE)
    scheduler = Scheduler(options, KVCacheManager(4096, BLOCK, True), StepTime(None), (EOS,))
    wastes = []
    for step in range(STEPS):
        while len(scheduler.running) + len(scheduler.waiting) < AT_ONCE:
            prompt = [source.randrange(2000, 100_000) for _ in range(source.randrange(128, 1024))]
            output = source.randrange(32, 256)
            scheduler.add(make(prompt, max_tokens=output, ignore_eos=True, arrival_s=float(step)))
        run(scheduler, now_s=float(step))
        wastes.append(scheduler.kv_cache.waste)
    steady = wastes[STEPS // 3 :]
    print(f"wasted: {sum(steady) / len(steady):.4f} on average, {max(steady):.4f} at most")
    assert sum(steady) / len(steady) < 0.04
