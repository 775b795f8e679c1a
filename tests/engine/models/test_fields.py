import math
from collections.abc import Callable

import pytest

from inferd.engine.models.fields import Fields
from inferd.errors import ConfigError


def fields(**values: object) -> Fields:
    return Fields(values, "folder/config.json")


def test_values_are_read_with_their_types() -> None:
    given = fields(i=3, f=0.5, b=True, s="x", l=["a", "b"], n=[1, 2.5], ids=[1, 2], id=7)
    assert given.integer("i") == 3
    assert given.number("f") == 0.5
    assert given.positive("i") == 3.0
    assert given.flag("b", False) is True
    assert given.text("s") == "x"
    assert given.texts("l") == ("a", "b")
    assert given.numbers("n", 2) == (1.0, 2.5)
    assert given.token_ids("ids") == (1, 2)
    assert given.token_ids("id") == (7,)


def test_null_is_absent_or_off() -> None:
    given = fields(a=None)
    assert "a" not in given
    assert given.integer("a", 4) == 4
    assert given.integer_or_off("a", 4) == 0
    assert given.number_or_off("a", 4.0) == 0.0
    assert given.integer_or_off("b", 4) == 4
    assert given.number_or_off("b", 4.0) == 4.0
    assert given.token_ids("a") == ()
    assert given.texts("a") == ()
    assert given.inner("a").integer("x", 2) == 2
    assert not given.on("a")


def test_defaults_go_under_what_is_there() -> None:
    given = fields(a=1, b=None).over({"a": 2, "b": 3, "c": 4})
    assert [given.integer(name) for name in "abc"] == [1, 3, 4]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, lambda f: f.integer("x")),
        (True, lambda f: f.integer("x")),
        (2.0, lambda f: f.integer("x")),
        (0, lambda f: f.integer("x")),
        (-1, lambda f: f.integer_or_off("x")),
        ("1", lambda f: f.number("x")),
        (True, lambda f: f.number("x")),
        (math.nan, lambda f: f.number("x")),
        (math.inf, lambda f: f.number("x")),
        (0, lambda f: f.positive("x")),
        (1, lambda f: f.flag("x", True)),
        (1, lambda f: f.text("x")),
        ("a", lambda f: f.texts("x")),
        ([1], lambda f: f.texts("x")),
        ([1.0], lambda f: f.numbers("x", 2)),
        ([1.0, 0.0], lambda f: f.numbers("x", 2)),
        ([1.0, "a"], lambda f: f.numbers("x", 2)),
        ("1", lambda f: f.token_ids("x")),
        ([-1], lambda f: f.token_ids("x")),
        (["a"], lambda f: f.inner("x")),
    ],
)
def test_what_is_wrong_is_told_with_file_and_field(
    value: object, read: Callable[[Fields], object]
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(fields(x=value))
    assert caught.value.file == "folder/config.json"
    assert caught.value.field.startswith("x")


def test_an_inner_field_is_told_with_its_path() -> None:
    inner = fields(a={"b": {"c": "no"}}).inner("a").inner("b")
    with pytest.raises(ConfigError, match=r"folder/config.json: a\.b\.c: must be a whole number"):
        inner.integer("c")
    assert str(inner.unsupported("c", "why")) == "folder/config.json: a.b.c: why"
