"""Completions: one or many prompts, each continued, written back or scored."""

from collections.abc import Sequence

from inferd.protocols.http.openai.logprobs import completion_logprobs
from inferd.protocols.http.openai.prompts import Prompt, parse_prompts, prompt_tokens
from inferd.protocols.http.openai.refusal import refuse_completion
from inferd.protocols.http.openai.reply import Choice, Json, Reply
from inferd.protocols.http.openai.sampling import completion_params, fitted
from inferd.schemas.openai import CompletionRequest
from inferd.serving.served_llm import ServedLLM
from inferd.types.generation import GenerationDelta, GenerationRequest, TokenLogprobs


class CompletionReply(Reply):
    """An answer to `POST /v1/completions`; `echoed` are the prompts' texts where the caller wants
    them back."""

    kind = "text_completion"
    chunk_kind = "text_completion"
    _fields: CompletionRequest
    echoed: Sequence[str] = ()

    def __init__(
        self, id: str, model: str, llm: ServedLLM, fields: CompletionRequest,
        requests: list[GenerationRequest],
    ) -> None:  # fmt: skip
        super().__init__(id, model, llm, fields, requests)
        self._waits = [self.streams and self._scores_prompt] * len(requests)
        self._held: list[list[GenerationDelta]] = [[] for _ in requests]

    def events(self, prompt: int, deltas: Sequence[GenerationDelta]) -> bytes:
        """As of any Reply; a prompt's scores go before all else."""
        if not self._waits[prompt]:
            return super().events(prompt, deltas)
        # They come with the first sequence; another may be ahead of it.
        held = self._held[prompt]
        held += deltas
        if all(delta.prompt_logprobs is None for delta in held):
            return b""
        self._waits[prompt] = False
        self._held[prompt] = []
        for delta in held:
            self._prompt_logprobs[prompt] = delta.prompt_logprobs or self._prompt_logprobs[prompt]
        return super().events(prompt, held)

    @property
    def _scores_prompt(self) -> bool:
        return bool(self._fields.echo) and self._fields.logprobs is not None

    def _whole_choice(self, choice: Choice) -> Json:
        body = self._text_piece(choice, "".join(choice.texts))
        if self.echoed:
            body["text"] = self.echoed[choice.prompt] + body["text"]
        if self._fields.logprobs is not None:
            scored = self._prompt_logprobs[choice.prompt] if self._scores_prompt else None
            body["logprobs"] = self._listed(choice, [*(scored or ()), *choice.logprobs])
        body["finish_reason"] = choice.finish_reason
        body["stop_reason"] = choice.stop_reason
        if self._fields.prompt_logprobs is not None:
            body["prompt_logprobs"] = self._listed_prompt_logprobs(choice.prompt)
        if self._ids:
            body["prompt_token_ids"] = self.requests[choice.prompt].prompt_token_ids
        return body | self._vllm_extras(choice)

    def _opening(self, choice: Choice) -> list[Json]:
        if not self.echoed:
            return []
        first = self._text_piece(choice, self.echoed[choice.prompt])
        scored = self._prompt_logprobs[choice.prompt]
        if self._scores_prompt and scored is not None:
            first["logprobs"] = self._listed(choice, scored)
        return [first]

    def _text_piece(self, choice: Choice, text: str) -> Json:
        return {"index": choice.index, "text": text, "logprobs": None, "finish_reason": None}

    def _piece_logprobs(self, choice: Choice, found: Sequence[TokenLogprobs]) -> Json:
        return self._listed(choice, found)

    def _listed(self, choice: Choice, found: Sequence[TokenLogprobs | None]) -> Json:
        first = self.requests[choice.prompt].prompt_token_ids[0]
        listed, choice.offset = completion_logprobs(found, first, self._texts, choice.offset)
        return listed


def completion_reply(fields: CompletionRequest, llm: ServedLLM, id: str) -> CompletionReply:
    """What answers a completion; its requests are ready to be generated. Raises InvalidRequest."""
    refuse_completion(fields)
    params = completion_params(fields, llm.defaults)
    prompts = parse_prompts(fields.prompt)
    requests = []
    for number, prompt in enumerate(prompts):
        tokens = prompt_tokens(llm, prompt, fields, True, params.max_tokens)
        request = llm.request(
            f"{id}-{number}", tokens,
            fitted(params, fields.max_tokens is not None, llm.max_len, len(tokens)),
            priority=fields.priority or 0, tenant=fields.user or "",
            cache_salt=fields.cache_salt or "",
        )  # fmt: skip
        requests.append(request)
    shown = fields.request_id or id
    reply = CompletionReply(f"cmpl-{shown}", fields.model or llm.name, llm, fields, requests)
    if fields.echo:
        reply.echoed = [
            _text(llm, p, r.prompt_token_ids, fields)
            for p, r in zip(prompts, requests, strict=True)
        ]
    return reply


def _text(llm: ServedLLM, prompt: Prompt, tokens: list[int], fields: CompletionRequest) -> str:
    """A prompt as its author wrote it, or what its tokens say."""
    if isinstance(prompt, str) and fields.truncate_prompt_tokens is None:
        return prompt
    return llm.tokenizer.decode(tokens, skip_special_tokens=fields.skip_special_tokens is not False)
