"""llama.cpp: its own server, which is what Ollama runs, asked over HTTP as it is meant to be."""

import os
from pathlib import Path

from benchmarks.llm.engines.driver import serve_job
from benchmarks.llm.engines.http_streams import HttpStreams
from benchmarks.llm.tasks import LONGEST, Task

CORES = len(os.sched_getaffinity(0))


class LlamaServer(HttpStreams):
    """An Engine."""

    def __init__(self, model: Path, form: str, task: Task) -> None:
        streams = task.streams + bool(task.intruder)
        # Its cache is cut into equal slots, so each must hold the longest sequence.
        context = max(task.prompt + task.output, LONGEST if task.intruder else 0) + 64
        options = ["-m", str(model), "-t", str(CORES), "-np", str(streams), "-cb"]
        options += ["-c", str(context * streams), "--no-webui", "--log-disable"]
        server = str(model.with_name("llama-server"))
        super().__init__(
            lambda port: [server, *options, "--port", str(port)],
            "/health",
            "/completion",
            lambda event, seen: (
                event["tokens_predicted"] if event["stop"] else seen + len(event["tokens"])
            ),
        )

    def add(self, id: str, prompt: list[int], output: int) -> None:
        body = {
            "prompt": prompt, "n_predict": output, "temperature": 0, "ignore_eos": True,
            "cache_prompt": True, "stream": True, "return_tokens": True,
        }  # fmt: skip
        self.stream(id, body)


if __name__ == "__main__":
    serve_job(LlamaServer, reopen=True)
