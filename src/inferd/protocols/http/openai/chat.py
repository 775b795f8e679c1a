"""Chats: from a request's messages to a prompt, and from what is generated to a message."""

from collections.abc import Sequence

from inferd.protocols.http.openai.logprobs import chat_logprobs
from inferd.protocols.http.openai.prompts import chat_prompt, prompt_tokens
from inferd.protocols.http.openai.refusal import refuse_chat
from inferd.protocols.http.openai.reply import Choice, Json, Reply
from inferd.protocols.http.openai.sampling import chat_params, fitted
from inferd.schemas.openai import ChatRequest
from inferd.serving.served_llm import ServedLLM
from inferd.types.generation import TokenLogprobs


class ChatReply(Reply):
    """An answer to `POST /v1/chat/completions`."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    _fields: ChatRequest
    role = "assistant"
    echoed = ""
    """The text of the message that is continued, where the caller wants it back."""

    def _whole_choice(self, choice: Choice) -> Json:
        text = self.echoed + "".join(choice.texts)
        logprobs = self._piece_logprobs(choice, choice.logprobs) if self._fields.logprobs else None
        return {
            "index": choice.index,
            "message": {"role": self.role, "content": text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
        } | self._vllm_extras(choice)

    def _whole_extras(self) -> Json:
        extras: Json = {}
        if self._fields.prompt_logprobs is not None:
            extras["prompt_logprobs"] = self._listed_prompt_logprobs(0)
        if self._ids:
            extras["prompt_token_ids"] = self.requests[0].prompt_token_ids
        return extras

    def _opening(self, choice: Choice) -> list[Json]:
        first = self._text_piece(choice, "")
        first["delta"] = {"role": self.role, "content": ""}
        return [first, self._text_piece(choice, self.echoed)] if self.echoed else [first]

    def _text_piece(self, choice: Choice, text: str) -> Json:
        return {
            "index": choice.index,
            "delta": {"content": text},
            "logprobs": None,
            "finish_reason": None,
        }

    def _piece_logprobs(self, choice: Choice, found: Sequence[TokenLogprobs]) -> Json:
        return chat_logprobs(found, self._texts, self._fields.top_logprobs or 0)


def chat_reply(fields: ChatRequest, llm: ServedLLM, id: str) -> ChatReply:
    """What answers a chat; its request is ready to be generated. Raises InvalidRequest."""
    refuse_chat(fields)
    params = chat_params(fields, llm.defaults)
    explicit = fields.max_completion_tokens is not None or fields.max_tokens is not None
    text = chat_prompt(llm, fields)
    tokens = prompt_tokens(llm, text, fields, False, params.max_tokens)
    request = llm.request(
        id, tokens, fitted(params, explicit, llm.max_len, len(tokens)),
        priority=fields.priority or 0, tenant=fields.user or "",
        cache_salt=fields.cache_salt or "",
    )  # fmt: skip
    shown = fields.request_id or id
    reply = ChatReply(f"chatcmpl-{shown}", fields.model or llm.name, llm, fields, [request])
    final = fields.messages[-1] if fields.messages else {}
    if fields.add_generation_prompt is False or fields.continue_final_message:
        reply.role = final["role"]
    if fields.echo and final.get("role") == reply.role and isinstance(final.get("content"), str):
        reply.echoed = final["content"]
    return reply
