"""inferd's engine, offline."""

import json
import sys
import time
from pathlib import Path

from benchmarks.llm.tasks import TASKS, Task, Timing
from inferd.config.engine import EngineConfig
from inferd.engine.core import EngineCore
from inferd.engine.loading import load_core
from inferd.types.generation import GenerationRequest, SamplingParams

TARGET_MS = 200.0


def main() -> None:
    """Run a job: {"model", "form", "tasks", "round"}."""
    job = json.load(sys.stdin)
    form = job["form"]
    options = {"quantization": form} if form.startswith("int") else {"dtype": form}
    for name in job["tasks"]:
        task = TASKS[name]
        target = TARGET_MS if task.intruder else 1e9
        config = EngineConfig(
            **options, max_model_len=4608, max_num_seqs=32, inter_token_target_ms=target
        )
        start = time.perf_counter()
        core, _, _ = load_core(Path(job["model"]), config)
        start_s = time.perf_counter() - start
        run(core, Task("warm", 2, 16, 4), round=99)
        figures = run(core, task, job["round"]).figures(task)
        print(json.dumps({"start_s": start_s} | figures), flush=True)
        core.runner.close()
        del core


def run(core: EngineCore, task: Task, round: int) -> Timing:
    """One task."""
    prompts = task.prompts(round)
    timing = Timing(ask(core, task, prompts, f"{task.name}-{round}"))
    if task.again:
        timing.again = ask(core, task, prompts, f"{task.name}-{round}-again")
    return timing


def ask(core: EngineCore, task: Task, prompts: list[list[int]], name: str) -> list[list[float]]:
    """Seconds of each token of each stream; the intruder's are left out."""
    start = time.perf_counter()
    times: dict[str, list[float]] = {}
    for number, prompt in enumerate(prompts):
        times[f"{name}-{number}"] = []
        add(core, f"{name}-{number}", prompt, task.output)
    intruder = task.intruder
    while core.has_work:
        for update in core.step():
            if update.token_ids and update.request_id in times:
                times[update.request_id].append(time.perf_counter() - start)
        if intruder and min(map(len, times.values())) >= task.output // 8:
            random = Task("intruder", 1, intruder, 1).prompts(len(name))
            add(core, f"{name}-intruder", random[0], 1)
            intruder = 0
    return list(times.values())


def add(core: EngineCore, id: str, prompt: list[int], output: int) -> None:
    """One greedy request."""
    params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
    core.add(GenerationRequest(id=id, prompt_token_ids=prompt, params=params))


if __name__ == "__main__":
    main()
