"""vLLM for CPUs, its engine stepped in this process."""

import os
from pathlib import Path

from benchmarks.llm.engines.driver import serve_job
from benchmarks.llm.tasks import LONGEST, STREAMS, Task

CORES = len(os.sched_getaffinity(0))
os.environ |= {
    "VLLM_CPU_OMP_THREADS_BIND": f"0-{CORES - 1}",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}


class Vllm:
    """An Engine."""

    process_id = os.getpid()

    def __init__(self, model: Path, form: str, task: Task) -> None:
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        arguments = EngineArgs(
            model=str(model), dtype=form, max_model_len=LONGEST, max_num_seqs=STREAMS
        )
        self._engine = LLMEngine.from_engine_args(arguments)
        self._params = SamplingParams
        self._delta = RequestOutputKind.DELTA

    def add(self, id: str, prompt: list[int], output: int) -> None:
        params = self._params(
            temperature=0, max_tokens=output, ignore_eos=True, detokenize=False,
            output_kind=self._delta,
        )  # fmt: skip
        self._engine.add_request(id, {"prompt_token_ids": prompt}, params)

    def step(self) -> list[str]:
        return [
            output.request_id for output in self._engine.step() for _ in output.outputs[0].token_ids
        ]

    @property
    def has_work(self) -> bool:
        return self._engine.has_unfinished_requests()

    def close(self) -> None:
        del self._engine


if __name__ == "__main__":
    serve_job(Vllm, reopen=False)
