"""What the OpenAI API has and inferd does not do yet: refused by name, never ignored where leaving
it out would change the answer. Pure.
"""

from collections.abc import Mapping
from typing import Any

from inferd.protocols.http.openai.errors import FieldError
from inferd.schemas.openai import ChatFields, ChatRequest, CompletionRequest, GenerationFields

_STRUCTURED = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip
_MEDIA = frozenset(
    (
        "image", "image_url", "input_image", "image_embeds", "input_audio", "audio_url", "video",
        "video_url", "file",
    )
)  # fmt: skip

MAX_N = 128
MAX_STRINGS = 128
"""Stop strings, and bad words: every character that is generated is compared with each."""


def refuse_generation(fields: GenerationFields) -> None:
    """Raises FieldError for what no endpoint does yet."""
    form = fields.response_format
    if form is not None and form.type != "text":
        raise _not_yet("response_format", f"structured output (response_format '{form.type}')")
    for name in _STRUCTURED:
        if getattr(fields, name) is not None:
            raise _not_yet(name, f"structured output ({name})")
    if fields.use_beam_search:
        raise _not_yet("use_beam_search", "beam search")
    if fields.stream_options is not None and not fields.stream:
        raise FieldError(
            "stream_options is only allowed when stream is true; leave it out or stream",
            "stream_options",
        )
    if fields.stream and fields.prompt_logprobs is not None:
        raise FieldError(
            "prompt_logprobs are not available with stream; set stream to false",
            "prompt_logprobs",
        )
    if fields.cache_salt == "":
        raise FieldError("cache_salt must not be empty; leave it out for none", "cache_salt")
    if fields.n is not None and fields.n > MAX_N:
        raise FieldError(f"n must be at most {MAX_N}, got {fields.n}", "n")
    for name in ("stop", "bad_words"):
        count = len(getattr(fields, name) or ())
        if count > MAX_STRINGS and not isinstance(getattr(fields, name), str):
            raise FieldError(f"{name} has {count} strings; send at most {MAX_STRINGS}", name)


def refuse_completion(fields: CompletionRequest) -> None:
    """Raises FieldError for what completions do not do yet."""
    refuse_generation(fields)
    if fields.prompt_embeds is not None:
        raise _not_yet("prompt_embeds", "a prompt of embeddings")
    if fields.suffix:
        raise _not_yet("suffix", "filling in before a suffix")
    if fields.best_of is not None and fields.best_of != (fields.n or 1):
        raise FieldError(
            f"best_of must be the same as n, got {fields.best_of}; choosing the best of several "
            "is not supported",
            "best_of",
        )


def refuse_chat(fields: ChatRequest) -> None:
    """Raises FieldError for what chats do not do yet."""
    refuse_generation(fields)
    refuse_messages(fields)
    if fields.functions or (fields.function_call or "none") not in ("none", "auto"):
        raise _not_yet("functions", "calling functions")


def refuse_messages(fields: ChatFields) -> None:
    """Raises FieldError for messages that cannot become a prompt yet, or that are none."""
    choice = fields.tool_choice or ("auto" if fields.tools else "none")
    if choice != "none" and fields.tools:
        raise _not_yet("tools", "calling tools")
    if choice not in ("none", "auto"):
        raise FieldError("tool_choice needs tools, and there are none; send tools", "tool_choice")
    for number, message in enumerate(fields.messages or ()):
        _check_message(message, f"messages[{number}]")


def _check_message(message: Mapping[str, Any], place: str) -> None:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise FieldError(f"{place}.role is required, and must be a string", "messages")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise FieldError(f"{place}.content must be a string or a list of parts", "messages")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _MEDIA:
            raise _not_yet("messages", f"content of type '{kind}' (in {place})")


def _not_yet(param: str, what: str) -> FieldError:
    return FieldError(f"{what} is not supported yet; take it out of the request", param)
