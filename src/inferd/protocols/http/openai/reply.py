"""A Reply: one API answer being made of what the engine generates, whole or as a stream of events.

The parts of an event that do not change are encoded once: what a token costs is its text. It
refuses to know connections; bytes out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from inferd.protocols.http.openai.logprobs import TokenTexts, prompt_logprobs
from inferd.schemas.openai import GenerationFields
from inferd.serving.served_llm import ServedLLM
from inferd.types.generation import GenerationDelta, GenerationRequest, TokenLogprobs

DONE = b"data: [DONE]\n\n"

_dumps = orjson.dumps
Json = dict[str, Any]


@dataclass(slots=True, eq=False)
class Choice:
    """One of the answers: number `index` of all, to prompt number `prompt`.

    `head` and `tail` are an event with text and nothing else, around the text.
    """

    index: int
    prompt: int
    head: bytes = b""
    tail: bytes = b""
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    begun: bool = False
    offset: int = 0
    """Where the text of the next token begins, among all tokens' texts."""


class Reply:
    """What both kinds of answer share. `requests` are those of its prompts, in order."""

    kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def __init__(
        self, id: str, model: str, llm: ServedLLM, fields: GenerationFields,
        requests: list[GenerationRequest],
    ) -> None:  # fmt: skip
        self.llm = llm
        self.requests = requests
        self.streams = bool(fields.stream)
        self.choices = [
            Choice(prompt * request.params.n + number, prompt)
            for prompt, request in enumerate(requests)
            for number in range(request.params.n)
        ]
        self._fields = fields
        self._texts = TokenTexts(llm.tokenizer, bool(fields.return_tokens_as_token_ids))
        self._cached = [0] * len(requests)
        self._prompt_logprobs: list[list[TokenLogprobs | None] | None] = [None] * len(requests)
        self._completion_tokens = 0
        self._base = {"id": id, "created": int(time.time()), "model": model}
        options = fields.stream_options
        self._usage = bool(options and options.include_usage)
        self._usage_each = self._usage and bool(options and options.continuous_usage_stats)
        self._ids = bool(fields.return_token_ids)
        self._plain = not (self._usage_each or self._ids)
        """Whether an event may be text and nothing else."""
        if self.streams:
            self._encode_constants()

    # -- whole -----------------------------------------------------------------------------------

    def add(self, prompt: int, deltas: Sequence[GenerationDelta]) -> None:
        """Take in what has come for one prompt, for a whole answer."""
        for delta in deltas:
            choice = self._note(prompt, delta)
            choice.texts.append(delta.text)
            choice.token_ids += delta.token_ids
            if delta.logprobs:
                choice.logprobs += delta.logprobs

    def whole(self) -> bytes:
        """The answer, once all has come."""
        body = {
            **self._base,
            "object": self.kind,
            "system_fingerprint": None,
            "choices": [self._whole_choice(choice) for choice in self.choices],
            "usage": self.usage(),
        }
        return _dumps(body | self._whole_extras())

    def usage(self) -> Json:
        """Tokens in and out, so far."""
        prompt_tokens = sum([len(request.prompt_token_ids) for request in self.requests])
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": prompt_tokens + self._completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self._cached)},
        }

    # -- as events -------------------------------------------------------------------------------

    def events(self, prompt: int, deltas: Sequence[GenerationDelta]) -> bytes:
        """Server-sent events for what has come for one prompt; nothing for what shows nothing."""
        out: list[bytes] = []
        for delta in deltas:
            choice = self._note(prompt, delta)
            if not choice.begun:
                choice.begun = True
                out += [self._event(body) for body in self._opening(choice)]
            if delta.finish_reason is None and delta.logprobs is None and self._plain:
                if delta.text:
                    out.append(b"%b%b%b" % (choice.head, _dumps(delta.text), choice.tail))
            else:
                out.append(self._event(self._piece(choice, delta)))
        return out[0] if len(out) == 1 else b"".join(out)

    def last_events(self) -> bytes:
        """What ends a stream that went well."""
        if not self._usage:
            return DONE
        chunk = {**self._chunk_base(), "choices": [], "usage": self.usage()}
        return b"data: %b\n\n%b" % (_dumps(chunk), DONE)

    # -- what the kinds of answers fill in -------------------------------------------------------

    def _whole_choice(self, choice: Choice) -> Json:
        """An entry of `choices`."""
        raise NotImplementedError

    def _whole_extras(self) -> Json:
        """Further fields of a whole answer."""
        return {}

    def _opening(self, choice: Choice) -> list[Json]:
        """Entries of `choices` that come before the first text."""
        raise NotImplementedError

    def _text_piece(self, choice: Choice, text: str) -> Json:
        """An entry of `choices` with a piece of text."""
        raise NotImplementedError

    def _piece_logprobs(self, choice: Choice, found: Sequence[TokenLogprobs]) -> Json:
        """What `logprobs` says of a piece."""
        raise NotImplementedError

    # -- parts -----------------------------------------------------------------------------------

    def _note(self, prompt: int, delta: GenerationDelta) -> Choice:
        """Count a delta, and remember what it says once."""
        choice = self.choices[prompt * self.requests[prompt].params.n + delta.index]
        self._completion_tokens += len(delta.token_ids)
        if delta.num_cached_tokens > self._cached[prompt]:
            self._cached[prompt] = delta.num_cached_tokens
        if delta.prompt_logprobs is not None:
            self._prompt_logprobs[prompt] = delta.prompt_logprobs
        if delta.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = delta.finish_reason, delta.stop_reason
        return choice

    def _piece(self, choice: Choice, delta: GenerationDelta) -> Json:
        piece = self._text_piece(choice, delta.text)
        if delta.logprobs is not None:
            piece["logprobs"] = self._piece_logprobs(choice, delta.logprobs)
        if delta.finish_reason is not None:
            piece["finish_reason"] = delta.finish_reason
            piece["stop_reason"] = delta.stop_reason
        if self._ids:
            piece["token_ids"] = delta.token_ids
        return piece

    def _event(self, piece: Json) -> bytes:
        chunk = {**self._chunk_base(), "choices": [piece]}
        if self._usage:
            chunk["usage"] = self.usage() if self._usage_each else None
        return b"data: %b\n\n" % _dumps(chunk)

    def _chunk_base(self) -> Json:
        return {**self._base, "object": self.chunk_kind}

    def _encode_constants(self) -> None:
        """An event around a mark, cut in two where the text goes."""
        mark = "\x00"
        quoted = _dumps(mark)
        for choice in self.choices:
            event = self._event(self._text_piece(choice, mark))
            choice.head, _, choice.tail = event.rpartition(quoted)

    def _vllm_extras(self, choice: Choice) -> Json:
        """Fields of an entry of `choices` that only vLLM's clients ask for."""
        extras: Json = {}
        if self._ids:
            extras["token_ids"] = choice.token_ids
        return extras

    def _listed_prompt_logprobs(self, prompt: int) -> list[Json | None] | None:
        found = self._prompt_logprobs[prompt]
        if found is None or self._fields.prompt_logprobs is None:
            return None
        return prompt_logprobs(found, self._texts)
