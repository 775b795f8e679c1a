from typing import Any

import pytest

from inferd.engine.text.messages import prepare_messages

TEXT = {"type": "text", "text": "one"}
MORE = {"type": "text", "text": "two"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:..."}}


def _prepare(message: dict[str, Any], parts: bool = False, developer: bool = False) -> Any:
    (ready,) = prepare_messages([message], parts, developer)
    return ready


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("as it is", "as it is"),
        ([TEXT], "one"),
        ([TEXT, MORE], "one\ntwo"),
        (["one", MORE], "one\ntwo"),
        ([TEXT, IMAGE], "one"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([{"type": "input_text", "text": "one"}], "one"),
        ([5, None, {"type": "text", "text": 7}, {}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_parts_become_text(content: Any, text: str) -> None:
    assert _prepare({"role": "user", "content": content})["content"] == text


def test_parts_stay_for_a_template_that_takes_them() -> None:
    message = {"role": "user", "content": ["one", {"type": "input_text", "text": "two"}, IMAGE]}
    assert _prepare(message, parts=True)["content"] == [TEXT, MORE, IMAGE]
    assert _prepare({"role": "user", "content": "one"}, parts=True)["content"] == "one"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x": 1}', {"x": 1}),
        ({"x": 1}, {"x": 1}),
        ("", {}),
        ("{broken", "{broken"),
        (None, None),
    ],
)
def test_arguments_of_calls_become_objects(arguments: Any, expected: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    ready = _prepare({"role": "assistant", "content": None, "tool_calls": [call]})
    assert ready["tool_calls"][0]["function"] == {"name": "f", "arguments": expected}
    assert ready["content"] is None
    assert call["function"]["arguments"] == arguments


@pytest.mark.parametrize("calls", [[None], ["x"], [{}], [{"function": 3}], "text"])
def test_calls_that_are_none_do_no_harm(calls: Any) -> None:
    ready = _prepare({"role": "assistant", "content": "x", "tool_calls": calls})
    assert ready["tool_calls"] == calls


def test_a_developer_is_the_system_where_nobody_knows_him() -> None:
    message = {"role": "developer", "content": "x"}
    assert _prepare(message)["role"] == "system"
    assert _prepare(message, developer=True)["role"] == "developer"
    assert message["role"] == "developer"


def test_other_fields_are_kept() -> None:
    message = {"role": "tool", "content": "x", "tool_call_id": "7", "name": "f", "reasoning": "r"}
    assert _prepare(message) == message
