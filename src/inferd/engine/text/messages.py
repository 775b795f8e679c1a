"""Chat messages as templates expect them, whichever of the API's ways of writing them was used.

It refuses to know templates: it is told what one can take.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]

_TEXT_FIELDS = ("text", "refusal")


def prepare_messages(
    messages: Sequence[Message], takes_parts: bool, knows_developer: bool
) -> list[dict[str, Any]]:
    """Copies of `messages` that a template can take.

    Where it takes no content parts, texts are joined by line breaks and other parts are left out;
    arguments of tool calls become objects; a developer is the system where it knows none.
    """
    return [_prepare(message, takes_parts, knows_developer) for message in messages]


def _prepare(message: Message, takes_parts: bool, knows_developer: bool) -> dict[str, Any]:
    ready = dict(message)
    if ready.get("role") == "developer" and not knows_developer:
        ready["role"] = "system"
    calls = ready.get("tool_calls")
    content = ready.get("content")
    if isinstance(content, list | tuple):
        parts = [_as_part(part) for part in content]
        ready["content"] = parts if takes_parts else "\n".join(_texts(parts))
    elif content is None and not calls:
        ready["content"] = ""
    if isinstance(calls, list | tuple):
        ready["tool_calls"] = [_as_call(call) for call in calls]
    return ready


def _as_part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    for name in _TEXT_FIELDS:
        if isinstance(part, Mapping) and isinstance(part.get(name), str):
            return {**part, "type": "text", "text": part[name]}
    return part


def _texts(parts: list[Any]) -> list[str]:
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return [text for text in texts if isinstance(text, str)]


def _as_call(call: Any) -> Any:
    """The API writes arguments as a string of JSON; templates write them out as JSON again."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = call["function"]
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        parsed = json.loads(arguments) if arguments.strip() else {}
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": parsed}}
