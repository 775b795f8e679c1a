"""A ChatTemplate: messages to the text that a model was trained to answer.

What it makes is, byte for byte, what transformers makes of the same template. It refuses to know
tokens and the API that the messages came by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferd.engine.text.extra import needs_extra
from inferd.engine.text.messages import Message, prepare_messages
from inferd.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Template, nodes

    from inferd.engine.text.sandbox import Limits

DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' ~ message['role'] ~ '\n' ~ message['content'] ~ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_END_MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""transformers' own, because some templates look for it."""
_RESERVED = frozenset({"messages", "tools"})


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A template and what it can take."""

    template: "Template"
    takes_parts: bool
    knows_developer: bool


class ChatTemplate:
    """The templates of one model, compiled. May be used from several threads.

    `is_default` says that the model has none and the common ChatML form stands in, which the model
    may never have seen: tell the user.
    """

    def __init__(
        self,
        templates: Mapping[str, str] | str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        limits: "Limits | None" = None,
    ) -> None:
        """`templates` and `special_tokens` as a Tokenizer has them, or one template's text.

        Raises ConfigError for a template with a mistake in its syntax.
        """
        with needs_extra("jinja2"):
            from inferd.engine.text.sandbox import Sandbox
        if isinstance(templates, str):
            templates = {"default": templates}
        self.is_default = not templates
        self._sandbox = Sandbox(limits)
        self._special_tokens = dict(special_tokens or {})
        self._compiled = {
            name: self._compile(name, source)
            for name, source in (templates or {"default": DEFAULT_TEMPLATE}).items()
        }

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        /,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt for `messages`; special tokens are in it, so encode it without adding any.

        `variables` are further names for the template (the API's chat_template_kwargs).
        `continue_final_message` leaves the last message open at its end. Raises InvalidRequest
        with the template's own message when it refuses.
        """
        if not messages:
            raise InvalidRequest("messages must not be empty; send at least one")
        if continue_final_message and add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt exclude each other; set "
                "add_generation_prompt to false"
            )
        taken = _RESERVED & variables.keys()
        if taken:
            raise InvalidRequest(
                f"chat_template_kwargs must not set {min(taken)}; use the field of that name"
            )
        compiled = self._choose(bool(tools))
        ready = prepare_messages(messages, compiled.takes_parts, compiled.knows_developer)
        if continue_final_message:
            _mark_end(ready[-1])
        text = self._sandbox.run(
            compiled.template,
            {
                "documents": None,
                **self._special_tokens,
                **variables,
                "messages": ready,
                "tools": list(tools) if tools else None,
                "add_generation_prompt": add_generation_prompt,
            },
        )
        return _cut_at_mark(text) if continue_final_message else text

    def _choose(self, with_tools: bool) -> _Compiled:
        compiled = self._compiled
        if with_tools and "tool_use" in compiled:
            return compiled["tool_use"]
        return compiled.get("default") or next(iter(compiled.values()))

    def _compile(self, name: str, source: str) -> _Compiled:
        from jinja2 import TemplateSyntaxError

        try:
            template = self._sandbox.from_string(source)
            tree = self._sandbox.parse(source)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"template '{name}' has a mistake in line {error.lineno}: {error.message}",
                field="chat_template",
            ) from error
        return _Compiled(template, _takes_parts(tree), "developer" in source)


def _takes_parts(tree: "nodes.Template") -> bool:
    """Whether the template goes through a message's content part by part."""
    from jinja2 import nodes

    names = {"content"}
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name) and _is_content(assignment.node, names):
            names.add(assignment.target.name)
    return any(_is_content(loop.iter, names) for loop in tree.find_all(nodes.For))


def _is_content(node: "nodes.Node", names: set[str]) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, nodes.Name) and node.name in names


def _mark_end(final: dict[str, Any]) -> None:
    """Write the mark behind the last text of a message."""
    content = final.get("content")
    if isinstance(content, str):
        final["content"] = content + _END_MARK
        return
    parts = content if isinstance(content, list) else []
    for place, part in reversed(list(enumerate(parts))):
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            parts[place] = {**part, "text": part["text"] + _END_MARK}
            return
    raise InvalidRequest(
        "continue_final_message needs a final message with text; this one has none"
    )


def _cut_at_mark(text: str) -> str:
    """`text` up to the mark, without what the template closes the final message with."""
    end = text.rfind(_END_MARK.strip())
    if end < 0:
        raise InvalidRequest(
            "continue_final_message: the chat template leaves the final message out, so that it "
            "cannot be continued"
        )
    # A template that strips messages takes the mark's space, and would have taken the message's.
    return text[:end] if text.startswith(_END_MARK, end) else text[:end].rstrip()
