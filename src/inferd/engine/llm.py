"""LLM: a language model in this process, without a server: `LLM(model_dir).generate(prompts)`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inferd.config.engine import EngineConfig
from inferd.config.strict import decode_struct
from inferd.engine.core import SequenceUpdate
from inferd.engine.intake import Intake
from inferd.engine.loading import load_core
from inferd.engine.text.output import OutputProcessor
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import ConfigError, Overloaded
from inferd.types.generation import (
    Generation,
    GenerationOutput,
    GenerationRequest,
    SamplingParams,
    TokenLogprobs,
)

Prompt = str | Sequence[int]


class LLM:
    """One model, offline. Options are EngineConfig's, by name.

    Raises ConfigError for an option that is unknown or wrong, and what loading raises.
    """

    def __init__(
        self, model_dir: str | Path, *, progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        config = decode_struct(options, EngineConfig, file="LLM")
        if config.isolation != "thread":
            raise ConfigError("an LLM runs where it is called", file="LLM", field="isolation")
        self.tokenizer = Tokenizer.load(model_dir)
        self.core, self.spec, self.choice = load_core(Path(model_dir), config, progress)
        self._intake = Intake(self.tokenizer, self.spec, self.core.scheduler.max_len, config)
        self._count = 0

    def generate(
        self, prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[GenerationOutput]:  # fmt: skip
        """Generate for each prompt (text or token ids); outputs are in the order of the prompts.

        `params` is one for all or one for each. `progress` is called with tokens generated so far
        and requests finished. Raises InvalidRequest before anything runs.
        """
        texts = _prompts(prompts)
        if params is None or isinstance(params, SamplingParams):
            each = [params or SamplingParams()] * len(texts)
        else:
            each = list(params)
        requests = [
            self._intake.request(f"offline-{self._count + n}", text, chosen)
            for n, (text, chosen) in enumerate(zip(texts, each, strict=True))
        ]
        self._count += len(requests)
        gathering = {request.id: _Gathering(request, self.tokenizer) for request in requests}
        waiting = iter(requests)
        coming: GenerationRequest | None = next(waiting, None)
        tokens = 0
        while coming is not None or self.core.has_work:
            while coming is not None and self._add(coming):
                coming = next(waiting, None)
            for update in self.core.step():
                stop = gathering[update.request_id].push(update)
                tokens += len(update.token_ids)
                if stop and update.finish_reason is None:
                    self.core.finish(update.sequence_id)
            if progress is not None:
                progress(tokens, sum(g.done for g in gathering.values()))
        return [gathering[request.id].output() for request in requests]

    def _add(self, request: GenerationRequest) -> bool:
        """Whether the engine took it in; if not, there is work to be done first."""
        try:
            self.core.add(request)
        except Overloaded:
            if not self.core.has_work:
                raise
            return False
        return True

    def close(self) -> None:
        """End the threads and give the memory back."""
        self.core.runner.close()


class _Gathering:
    """A request whose sequences are being joined."""

    def __init__(self, request: GenerationRequest, tokenizer: Tokenizer) -> None:
        self._request = request
        count = request.params.n
        self._processors = [
            OutputProcessor(tokenizer, request.params, request.prompt_token_ids)
            for _ in range(count)
        ]
        self._generations = [
            Generation(index=index, token_ids=[], text="", finish_reason="abort")
            for index in range(count)
        ]
        self._ended = 0
        self._prompt_logprobs: list[TokenLogprobs | None] | None = None
        self._cached = 0

    @property
    def done(self) -> bool:
        return self._ended == len(self._generations)

    def push(self, update: SequenceUpdate) -> bool:
        """Take an update in; whether a stop string ended the sequence. Raises its error."""
        if update.error is not None:
            raise update.error
        generation = self._generations[update.index]
        text, stop = self._processors[update.index].push(update.token_ids, update.finish_reason)
        generation.text += text
        generation.token_ids += update.token_ids
        if update.logprobs:
            generation.logprobs = (generation.logprobs or []) + update.logprobs
        self._prompt_logprobs = update.prompt_logprobs or self._prompt_logprobs
        self._cached = max(self._cached, update.num_cached_tokens)
        if stop is not None:
            generation.finish_reason, generation.stop_reason = "stop", stop
        elif update.finish_reason is not None:
            generation.finish_reason = update.finish_reason
            generation.stop_reason = update.stop_reason
        else:
            return False
        self._ended += 1
        return stop is not None

    def output(self) -> GenerationOutput:
        return GenerationOutput(
            id=self._request.id,
            prompt_token_ids=self._request.prompt_token_ids,
            generations=self._generations,
            prompt_logprobs=self._prompt_logprobs,
            num_cached_tokens=self._cached,
        )


def _prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]
