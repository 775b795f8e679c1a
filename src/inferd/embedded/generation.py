"""What a caller in Python asks of a language model, in the words of the OpenAI API and of vLLM, and
the pieces of an answer joined.

It refuses to know threads (`core_thread.py`), and how text is made.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec

from inferd.core import Core
from inferd.errors import InvalidRequest
from inferd.types.generation import Generation, GenerationDelta, GenerationOutput, GenerationRequest

if TYPE_CHECKING:
    from inferd.serving.served_llm import ServedLLM

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""Text, the ids of its tokens, or the messages of a chat."""

_OF_THE_WIRE: Final = frozenset(
    (
        "echo", "messages", "model", "prompt", "request_id", "return_token_ids",
        "return_tokens_as_token_ids", "stream", "stream_options",
    )
)  # fmt: skip
"""Fields of a body that a caller in Python says otherwise, or needs not say."""


class Question:
    """One prompt, and how to go on from it; raises InvalidRequest, TypeError for an unknown
    option."""

    def __init__(self, name: str, version: str, prompt: Prompt, options: Mapping[str, Any]) -> None:
        self._name = name
        self._version = version
        # Imported at the first prompt: `import inferd` and models of tensors need none of it.
        from inferd.schemas.openai import ChatRequest, CompletionRequest

        given: Any = prompt if isinstance(prompt, str) else list(prompt)
        self._chat = bool(given) and isinstance(given[0], Mapping)
        kind = ChatRequest if self._chat else CompletionRequest
        unknown = options.keys() - (set(kind.__struct_fields__) - _OF_THE_WIRE)
        if unknown:
            raise TypeError(f"unknown option {unknown.pop()!r} of a prompt")
        if not self._chat and not isinstance(given, str):
            try:
                given = [int(token) for token in given]
            except (TypeError, ValueError):
                raise InvalidRequest(
                    "prompt must be one text, token ids, or the messages of a chat"
                ) from None
        said = {"messages" if self._chat else "prompt": given, **options}
        try:
            self._fields: Any = msgspec.convert(said, kind)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"the options of the prompt: {error}") from error
        self._size = len(str(given))

    async def deltas(self, core: Core) -> AsyncGenerator[GenerationDelta, None]:
        """What comes of it, on the loop's thread. Raises InvalidRequest, ModelNotFound,
        ModelUnavailable, Overloaded, EngineDead."""
        llm, request = await self._begun(core)
        async with aclosing(llm.generate(request)) as stream:
            async for deltas in stream:
                for delta in deltas:
                    yield delta

    async def whole(self, core: Core) -> AsyncGenerator[GenerationOutput, None]:
        """A stream of one: all that comes of it, joined. Raises as `deltas`."""
        llm, request = await self._begun(core)
        output = GenerationOutput(
            id=request.id, prompt_token_ids=request.prompt_token_ids,
            generations=[
                Generation(index=index, token_ids=[], text="", finish_reason="abort")
                for index in range(request.params.n)
            ],
        )  # fmt: skip
        async with aclosing(llm.generate(request)) as stream:
            async for deltas in stream:
                for delta in deltas:
                    join(output, delta)
        yield output

    async def _begun(self, core: Core) -> "tuple[ServedLLM, GenerationRequest]":
        from inferd.protocols.http.openai.chat import chat_reply
        from inferd.protocols.http.openai.completions import completion_reply
        from inferd.protocols.http.openai.offload import offloaded
        from inferd.protocols.http.openai.prompts import runs_code
        from inferd.protocols.request_id import next_request_id

        llm = core.data.language_model(self._name, self._version)
        if llm is None:
            raise InvalidRequest(f"model '{self._name}' is not a language model; use infer()")
        fields, id = self._fields, next_request_id().decode()
        make: Any = chat_reply if self._chat else completion_reply
        reply = await offloaded(self._size, lambda: make(fields, llm, id), runs_code(fields))
        (request,) = reply.requests
        return llm, request


def join(output: GenerationOutput, delta: GenerationDelta) -> None:
    """Put a delta behind those that came before it."""
    generation = output.generations[delta.index]
    generation.text += delta.text
    generation.token_ids += delta.token_ids
    if delta.logprobs:
        generation.logprobs = (generation.logprobs or []) + delta.logprobs
    if delta.finish_reason is not None:
        generation.finish_reason = delta.finish_reason
        generation.stop_reason = delta.stop_reason
    output.prompt_logprobs = delta.prompt_logprobs or output.prompt_logprobs
    output.num_cached_tokens = max(output.num_cached_tokens, delta.num_cached_tokens)
