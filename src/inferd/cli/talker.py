"""Who is talked to: a model in this process, or one on a server. Messages in, text out as it comes.

It refuses to know the terminal.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from inferd.cli.openai_client import OpenAIServer

if TYPE_CHECKING:  # they load numpy and more
    from collections.abc import AsyncGenerator

    from inferd.types.generation import GenerationDelta

Message = Mapping[str, str]
Progress = Callable[[int, int], None]


class Talker(Protocol):
    """A model that answers. `name` is for the user."""

    name: str

    def ask(self, messages: Sequence[Message]) -> Iterator[str]:
        """The next message, piece by piece. Closing the iterator ends the answer. Raises
        InferdError."""
        ...


class ServerTalker:
    """A model on a server; `sampling` has the API's names."""

    def __init__(self, server: OpenAIServer, model: str, sampling: Mapping[str, Any]) -> None:
        self.name = f"{model} at {server.url}"
        self._server = server
        self._fixed = {"model": model, "stream": True, **sampling}

    def ask(self, messages: Sequence[Message]) -> Iterator[str]:
        """See Talker."""
        body = {**self._fixed, "messages": list(messages)}
        for event in self._server.stream("/v1/chat/completions", body):
            for choice in event.get("choices") or ():
                yield (choice.get("delta") or {}).get("content") or ""


class FolderTalker:
    """A model in this process, from its folder; a context that ends its threads.

    `sampling` are fields of SamplingParams, `options` those of EngineConfig. Raises ConfigError,
    Unsupported or BackendError where it cannot be loaded.
    """

    def __init__(
        self, folder: Path, sampling: Mapping[str, Any], options: Mapping[str, object],
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        import msgspec

        from inferd.backends.llm import EngineModel
        from inferd.config.model import ModelConfig

        self.name = str(folder)
        self._count = 0
        self._runner = asyncio.Runner()
        try:
            self.loop = self._runner.get_loop()
            self._model = EngineModel(folder, ModelConfig(), options, self.loop, progress)
            self._params = msgspec.structs.replace(self._model.defaults, **sampling)
            self._runner.run(self._model.start())
        except BaseException:
            self._runner.close()
            raise

    def ask(self, messages: Sequence[Message]) -> Iterator[str]:
        """See Talker."""
        model = self._model
        prompt = model.tokenizer.encode(model.render(messages, None, None, {}), False)
        self._count += 1
        request = model.request(
            f"chat-{self._count}", prompt, self._params, priority=0, tenant="", cache_salt=""
        )
        stream = model.generate(request)
        try:
            while deltas := self._runner.run(_next(stream)):
                yield "".join(delta.text for delta in deltas)
        finally:
            self._runner.run(stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        # Closing waits on the loop, so it is done beside it.
        self._runner.run(asyncio.to_thread(self._model.close))
        self._runner.close()


async def _next(stream: "AsyncGenerator[list[GenerationDelta], None]") -> "list[GenerationDelta]":
    """What comes next; nothing at the end. A task of its own for each, which Ctrl-C cancels."""
    return await anext(stream, [])
