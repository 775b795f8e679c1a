"""inferd's server, asked over HTTP: what the way there costs beside the engine alone."""

import sys
from pathlib import Path

from benchmarks.llm.engines.driver import serve_job
from benchmarks.llm.engines.http_streams import HttpStreams
from benchmarks.llm.engines.inferd import TARGET_MS
from benchmarks.llm.tasks import LONGEST, STREAMS, Task


class InferdServer(HttpStreams):
    """An Engine."""

    def __init__(self, model: Path, form: str, task: Task) -> None:
        self._model = model.name
        target = TARGET_MS if task.intruder else 1e9
        options = ["--quantization", form] if form.startswith("int") else ["--dtype", form]
        options += ["--max-model-len", str(LONGEST), "--max-num-seqs", str(STREAMS)]
        options += ["--inter-token-target-ms", str(target)]
        serve = [sys.executable, "-m", "inferd", "serve", str(model), *options]
        super().__init__(
            lambda port: [*serve, "--http-port", str(port)],
            "/v2/health/ready",
            "/v1/completions",
            lambda event, seen: event["usage"]["completion_tokens"],
        )

    def add(self, id: str, prompt: list[int], output: int) -> None:
        usage = {"include_usage": True, "continuous_usage_stats": True}
        body = {
            "model": self._model, "prompt": prompt, "max_tokens": output, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": usage,
        }  # fmt: skip
        self.stream(id, body)


if __name__ == "__main__":
    serve_job(InferdServer, reopen=True)
