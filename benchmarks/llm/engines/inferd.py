"""inferd's engine, offline."""

import os
from pathlib import Path

from benchmarks.llm.engines.driver import serve_job
from benchmarks.llm.tasks import LONGEST, STREAMS, Task
from inferd.config.engine import EngineConfig
from inferd.engine.loading import load_core
from inferd.types.generation import GenerationRequest, SamplingParams

TARGET_MS = 200.0


class Inferd:
    """An Engine. Only where somebody intrudes is a step bounded: offline nobody watches."""

    process_id = os.getpid()

    def __init__(self, model: Path, form: str, task: Task) -> None:
        options = {"quantization": form} if form.startswith("int") else {"dtype": form}
        target = TARGET_MS if task.intruder else 1e9
        config = EngineConfig(
            **options, max_model_len=LONGEST, max_num_seqs=STREAMS, inter_token_target_ms=target
        )
        self._core, _, _ = load_core(model, config)

    def add(self, id: str, prompt: list[int], output: int) -> None:
        params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
        self._core.add(GenerationRequest(id=id, prompt_token_ids=prompt, params=params))

    def step(self) -> list[str]:
        return [update.request_id for update in self._core.step() for _ in update.token_ids]

    @property
    def has_work(self) -> bool:
        return self._core.has_work

    def close(self) -> None:
        self._core.runner.close()


if __name__ == "__main__":
    serve_job(Inferd, reopen=True)
