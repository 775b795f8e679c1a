from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from engine.text.templates import CONVERSATIONS, MISTRAL, PARTS, QWEN, TEMPLATES, TOOL, Messages
from engine.text.vocabularies import byte_level_core
from inferd.engine.text.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from inferd.engine.text.sandbox import Limits
from inferd.errors import ConfigError, InvalidRequest

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": "Hi"}


@pytest.fixture(scope="module")
def theirs() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=byte_level_core(), **SPECIAL)


def _ours(template: str, messages: Messages, **options: Any) -> str | None:
    """None when the template refuses."""
    tools = options.pop("tools", None)
    try:
        return ChatTemplate(template, SPECIAL).render(messages, tools, **options)
    except InvalidRequest:
        return None


def _expected(
    theirs: PreTrainedTokenizerFast, template: str, messages: Messages, **options: Any
) -> str | None:
    try:
        text = theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, **options
        )
    except Exception:  # whatever a template may raise
        return None
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_byte_for_byte_what_transformers_makes(
    theirs: PreTrainedTokenizerFast,
    name: str,
    conversation: str,
    tools: list[dict[str, Any]] | None,
    prompt: bool,
) -> None:
    messages = CONVERSATIONS[conversation]
    options: dict[str, Any] = {"tools": tools, "add_generation_prompt": prompt}
    options["date_string"] = "26 Jul 2024"  # not today's, which may end between the two
    expected = _expected(theirs, TEMPLATES[name], messages, **options)
    assert _ours(TEMPLATES[name], messages, **options) == expected
    if conversation in ("one", "turns"):
        assert expected is not None


@pytest.mark.parametrize(
    "content", ["The answer", " The answer ", "", "The\nanswer \n", "<s>Hi", "?"]
)
@pytest.mark.parametrize("name", TEMPLATES)
def test_continuing_as_transformers_does(
    theirs: PreTrainedTokenizerFast, name: str, content: str
) -> None:
    messages = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": content}]
    options: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}
    options["date_string"] = "26 Jul 2024"
    expected = _expected(theirs, TEMPLATES[name], messages, **options)
    assert expected is not None
    assert _ours(TEMPLATES[name], messages, **options) == expected


def test_variables_of_the_request(theirs: PreTrainedTokenizerFast) -> None:
    options = {"add_generation_prompt": True, "enable_thinking": False}
    text = ChatTemplate(QWEN).render([USER], **options)
    assert text == _expected(theirs, QWEN, [USER], **options)
    assert text.endswith("<think>\n\n</think>\n\n")


def test_parts_go_to_templates_that_take_them(theirs: PreTrainedTokenizerFast) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image"}, {"type": "text", "text": "here"}]
    messages = [{"role": "user", "content": parts}]
    text = ChatTemplate(PARTS).render(messages)
    assert text == _expected(theirs, PARTS, messages, add_generation_prompt=True)
    assert "look<image>here" in text
    assert "look\nhere" in ChatTemplate(MISTRAL, SPECIAL).render(messages)


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        (
            "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}",
            True,
        ),
        (
            "{% for m in messages %}{% set x = m['content'] %}"
            "{% for c in x %}{{ c.text }}{% endfor %}{% endfor %}",
            True,
        ),
        (
            "{% macro f(content) %}{% for c in content %}{{ c.text }}{% endfor %}{% endmacro %}"
            "{{ f(messages[0].content) }}",
            True,
        ),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        (
            "{% for m in messages %}{% for line in m.content.split('+') %}{{ line }}{% endfor %}"
            "{% endfor %}",
            False,
        ),
    ],
)
def test_which_templates_take_parts(template: str, takes: bool) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    text = ChatTemplate(template).render([{"role": "user", "content": parts}])
    assert text == ("ab" if takes else "a\nb")


def test_unknown_parts_and_fields_do_no_harm() -> None:
    message = {"role": "user", "content": [{"type": "hologram"}, 7], "sparkle": True}
    for template in TEMPLATES.values():
        ChatTemplate(template, SPECIAL).render([message])


def test_the_default_is_told() -> None:
    template = ChatTemplate({}, SPECIAL)
    assert template.is_default
    assert template.render([{"role": "system", "content": "S"}, USER]) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not ChatTemplate(DEFAULT_TEMPLATE).is_default


def test_tools_choose_their_template() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "{{ tools | length }} tools"})
    assert template.render([USER]) == "plain"
    assert template.render([USER], []) == "plain"
    assert template.render([USER], [TOOL]) == "1 tools"
    assert ChatTemplate({"odd": "odd"}).render([USER]) == "odd"


def test_a_template_speaks_for_itself() -> None:
    with pytest.raises(InvalidRequest, match=r"roles must alternate user/assistant/\.\.\."):
        ChatTemplate(MISTRAL, SPECIAL).render([USER, USER])


def test_limits_hold() -> None:
    template = ChatTemplate("{{ messages[0].content }}", limits=Limits(chars=10))
    assert template.render([USER]) == "Hi"
    with pytest.raises(InvalidRequest, match="more than 10 characters"):
        template.render([{"role": "user", "content": "x" * 11}])


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ([], {}, "messages must not be empty"),
        ([USER], {"continue_final_message": True}, "exclude each other"),
        ([USER], {"messages": []}, "must not set messages"),
        ([USER], {"tools": []}, "must not set tools"),
        (
            [{"role": "assistant", "content": [{"type": "image"}]}],
            {"continue_final_message": True, "add_generation_prompt": False},
            "continue_final_message needs",
        ),
    ],
)
def test_requests_that_make_no_sense(
    messages: Messages, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ChatTemplate(PARTS).render(messages, **options)


def test_a_final_message_that_is_left_out_cannot_be_continued() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    with pytest.raises(InvalidRequest, match="leaves the final message out"):
        template.render([USER, USER], add_generation_prompt=False, continue_final_message=True)


def test_continuing_parts(theirs: PreTrainedTokenizerFast) -> None:
    parts = [{"type": "text", "text": "It is "}, {"type": "image"}]
    messages = [USER, {"role": "assistant", "content": parts}]
    options = {"add_generation_prompt": False, "continue_final_message": True}
    assert _ours(PARTS, messages, **options) == _expected(theirs, PARTS, messages, **options)
    assert parts[0]["text"] == "It is "


def test_a_mistake_in_a_template_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"chat_template: template 'default' .* line 2"):
        ChatTemplate("fine\n{% if %}")
