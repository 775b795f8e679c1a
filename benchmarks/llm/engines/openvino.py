"""OpenVINO GenAI's ContinuousBatchingPipeline, on a model that optimum-intel exported."""

import os
from pathlib import Path

import numpy as np

from benchmarks.llm.engines.driver import serve_job
from benchmarks.llm.tasks import STREAMS, Task

CACHE_GB = 2


class OpenVino:
    """An Engine."""

    process_id = os.getpid()

    def __init__(self, model: Path, form: str, task: Task) -> None:
        import openvino
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.max_num_seqs = STREAMS
        scheduler.enable_prefix_caching = True
        self._genai = openvino_genai
        self._tensor = openvino.Tensor
        self._pipe = openvino_genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU")
        self._handles: dict[str, object] = {}
        self._ids = 0

    def add(self, id: str, prompt: list[int], output: int) -> None:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = output
        config.do_sample = False
        config.ignore_eos = True
        ids = self._tensor(np.array([prompt], np.int64))
        self._ids += 1
        self._handles[id] = self._pipe.add_request(self._ids, ids, config)

    def step(self) -> list[str]:
        self._pipe.step()
        seen = []
        for id, handle in self._handles.items():
            while handle.can_read():
                for output in handle.read().values():
                    seen += [id] * len(output.generated_ids)
        return seen

    @property
    def has_work(self) -> bool:
        return self._pipe.has_non_finished_requests()

    def close(self) -> None:
        del self._pipe


if __name__ == "__main__":
    serve_job(OpenVino, reopen=False)
