from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from inferd.config.strict import MAX_DOCUMENT_BYTES, decode_struct, read_document, suggest
from inferd.errors import ConfigError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    kind: Literal["auto", "cpu"] = "auto"
    colour: Colour = Colour.RED


class Cat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="dog"):
    tricks: int = 0


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"dashed": "da-shed"}):
    name: str
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, list[Leaf]] = {}
    pair: tuple[int, Leaf] | None = None
    pet: Cat | Dog | None = None
    free: dict[str, Any] = {}
    dashed: int = 0


def refusal(data: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        decode_struct(data, Root, file="m.yaml", field="models[2]")
    assert caught.value.file == "m.yaml"
    return caught.value


def test_plain_data_becomes_the_struct() -> None:
    root = decode_struct(
        {"name": "n", "leaf": {"count": 2}, "pet": {"type": "dog"}}, Root, file="m.yaml"
    )
    assert root == Root(name="n", leaf=Leaf(count=2), pet=Dog())


@pytest.mark.parametrize(
    ("data", "field", "near"),
    [
        ({"nam": 1}, "nam", "name"),
        ({"name": "n", "leaf": {"cont": 1}}, "leaf.cont", "count"),
        ({"name": "n", "leaves": [{}, {"knd": 1}]}, "leaves[1].knd", "kind"),
        ({"name": "n", "by_name": {"a": [], "b.c": [{"color": 1}]}}, "by_name.b.c[0].color",
         "colour"),
        ({"name": "n", "pair": [1, {"counts": 1}]}, "pair[1].counts", "count"),
        ({"name": "n", "pet": {"type": "dog", "trick": 1}}, "pet.trick", "tricks"),
        ({"name": "n", "dashed": 1}, "dashed", "da-shed"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_named_with_its_path_and_the_nearest_name(
    data: object, field: str, near: str
) -> None:
    error = refusal(data)
    assert error.field == f"models[2].{field}"
    assert f"unknown field, did you mean {near}?" in str(error)


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        ({}, ".name", "is required and missing"),
        ([], "", "expected `object`, got a list"),
        ({"name": 3}, ".name", "expected `str`, got 3"),
        ({"name": None}, ".name", "expected `str`, got null"),
        ({"name": "n" * 99, "leaf": {"count": "n" * 99}}, ".leaf.count", "nnn..."),
        ({"name": "n", "leaf": 7}, ".leaf", "expected `object | null`, got 7"),
        ({"name": "n", "leaf": {"count": 0}}, ".leaf.count", "expected `int` >= 1, got 0"),
        ({"name": "n", "leaf": {"kind": "gpu"}}, ".leaf.kind",
         "expected one of auto, cpu, got 'gpu'"),
        ({"name": "n", "leaf": {"colour": "grey"}}, ".leaf.colour",
         "expected one of red, blue, got 'grey'"),
        ({"name": "n", "by_name": {"x": [{"count": True}]}}, ".by_name.x[0].count",
         "expected `int`, got true"),
        ({"name": "n", "by_name": {3: []}}, ".by_name", "a key: Expected `str`, got `int`"),
        ({"name": "n", "pair": [1]}, ".pair", "of length 2"),
        ({"name": "n", "pet": {"type": "fish"}}, ".pet.type", "fish"),
        ({"name": 10**5000}, ".name", "a very large number"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_shown_with_what_is_expected(
    data: object, field: str, message: str
) -> None:
    error = refusal(data)
    assert error.field == f"models[2]{field}"
    assert message in str(error)


def test_a_field_name_that_looks_like_a_path_does_not_confuse() -> None:
    name = "x` - at `$.leaf"
    assert "unknown field" in str(refusal({"name": "n", name: 1}))


def test_suggest_lists_all_names_when_none_is_near() -> None:
    assert suggest("zzz", ["host", "port"]) == "known are: host, port"
    assert suggest("prt", ["host", "port"]) == "did you mean port?"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "a: [1, 2]\nb: {c: x}\n"),
        ("a.yml", "\N{ZERO WIDTH NO-BREAK SPACE}a: [1, 2]\nb: {c: x}\n"),
        ("a.JSON", '{"a": [1, 2], "b": {"c": "x"}}'),
        ("a.toml", 'a = [1, 2]\n[b]\nc = "x"\n'),
    ],
)
def test_three_formats_hold_the_same_data(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_document(tmp_path / name) == {"a": [1, 2], "b": {"c": "x"}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: 1\nb: [1\n", "line 3"),
        ("a.yaml", "a: 1\nb: 2\na: 3\n", "line 3, column 1: `a` is there twice"),
        ("a.yaml", "a: &x [1]\nb: *x\n", "line 2, column 4: aliases are not taken"),
        ("a.yaml", "a: 1\nb: !!python/object:os.system {}\n", "line 2"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "line 2"),
        ("a.yaml", "a: 1\nb: \x07\n", "line 2"),
        ("a.yaml", "a: 2026-13-01\n", "is not YAML"),
        ("a.yaml", "[" * 5000, "is nested too deeply"),
        ("a.json", '{"a": 1,\n "b": }', "line 2, column 7"),
        ("a.json", '{"a": 1, "a": 2}', "`a` is there twice"),
        ("a.json", "[" * 200_000, "is nested too deeply"),
        ("a.json", "9" * 5000, "is not JSON"),
        ("a.toml", "a = 1\nb = \n", "line 2"),
        ("a.toml", "a = 1\na = 2\n", "line 2"),
        ("a.txt", "", "must end in .yaml, .yml, .json, .toml"),
        ("a.json", " " * (MAX_DOCUMENT_BYTES + 1), "the limit"),
    ],
)
def test_a_document_that_cannot_be_read_says_where(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_document(str(path))
    assert caught.value.file == str(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_document(tmp_path / "none.yaml")
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_document(tmp_path / "dir.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match="line 2: is not UTF-8"):
        read_document(tmp_path / "latin.yaml")
