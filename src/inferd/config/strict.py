"""From a document (YAML, JSON, TOML) to a struct, or to a ConfigError that names file and field.

It holds two steps: `read_document` (file to plain data) and `decode_struct` (plain data to a type).
It refuses to know what any configuration means, and to mend one: no unknown field, no repeated key,
no guess.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import msgspec
import yaml

from inferd.errors import ConfigError

T = TypeVar("T")

MAX_DOCUMENT_BYTES: Final = 1024 * 1024

# msgspec says what is wrong and where in one text; these take it apart again.
_STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_GOT: Final = re.compile(r", got `[^`]*`$")


def decode_struct(
    data: object, type: type[T], *, file: str, field: str = "", strict: bool = True
) -> T:
    """Convert plain data to `type`; `field` is where in `file` the data stands.

    `strict=False` also takes numbers and booleans spelled as text, as an environment has them; keys
    that are numbers may always be text, as JSON has them.
    """
    try:
        return msgspec.convert(data, type, strict=strict, str_keys=True)
    except msgspec.ValidationError as error:
        where, message = _explain(str(error), _Place(field, type, data))
        raise ConfigError(message, file=file, field=where) from None


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known are: {', '.join(names) or 'none'}"


def read_document(path: str | Path) -> object:
    """The plain data in a .yaml, .yml, .json or .toml file."""
    file = str(path)
    parse = _PARSERS.get(Path(path).suffix.lower())
    if parse is None:
        raise ConfigError(f"the name must end in {', '.join(_PARSERS)}", file=file)
    return parse_file(path, parse)


def parse_file(
    path: str | Path, parse: Callable[[str, str], T], tidy: Callable[[bytes], bytes] = bytes
) -> T:
    """What `parse` makes of a file's text, and its name for errors; `tidy` takes out what need not
    be text. Raises ConfigError for what is no text, or too much."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", file=file) from error
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise ConfigError(f"is over {MAX_DOCUMENT_BYTES} bytes, the limit", file=file)
    raw = tidy(raw)
    try:
        return parse(raw.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"line {line}: is not UTF-8 text", file=file) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", file=file) from None


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML, less what hides a mistake or grows without bound: repeated keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not taken", problem_mark=mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = f"`{key.value}` is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _parse_yaml(text: str, file: str) -> object:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}{error.problem or error.context}", file=file) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"line {line}: {error.reason}", file=file) from None
    except (ValueError, yaml.YAMLError) as error:  # such as a date in month 13: no mark to name
        raise ConfigError(f"is not YAML: {error}", file=file) from None


def _parse_json(text: str, file: str) -> object:
    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in pairs:
            if name in found:
                raise ConfigError(f"`{name}` is there twice", file=file)
            found[name] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{where}: {error.msg}", file=file) from None
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"is not JSON: {error}", file=file) from None


def _parse_toml(text: str, file: str) -> object:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, which names line and column in its text
        raise ConfigError(f"is not TOML: {error}", file=file) from None


_PARSERS: Final[dict[str, Callable[[str, str], object]]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
    ".toml": _parse_toml,
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A value in a document: its dotted path, the type it should have, and what it is."""

    path: str
    hint: Any
    value: object

    def member(self, name: str) -> "_Place":
        value = self.value.get(name) if isinstance(self.value, Mapping) else None
        return _Place(self.join(name), _fields(self.type).get(name, Any), value)

    def item(self, index: str) -> "_Place":
        arguments = get_args(self.type)
        if isinstance(self.value, Mapping):
            hint = arguments[1] if len(arguments) == 2 else Any
            key = _first_wrong(self.value, hint)
            return _Place(self.join(str(key)), hint, self.value.get(key))
        items = list(self.value) if isinstance(self.value, list | tuple) else []
        position = int(index) if index.isdigit() else len(items)
        fixed = get_origin(self.type) is tuple and arguments[-1:] != (...,)
        hint = next(iter(arguments[position:] if fixed else arguments), Any)
        value = items[position] if position < len(items) else None
        return _Place(f"{self.path}[{index}]", hint, value)

    def join(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    @property
    def type(self) -> Any:
        """The hint without annotations, and of a union the member that fits the value."""
        return _plain(self.hint, self.value)


def _explain(text: str, root: _Place) -> tuple[str, str]:
    """The dotted field and the message for what msgspec said of the value at `root`."""
    what, where = _split(text)
    place = root
    for step in _STEP.finditer(where):
        place = place.member(step["name"]) if step["name"] else place.item(step["index"])
    if unknown := _UNKNOWN.fullmatch(what):
        known = _fields(place.type)
        return place.join(unknown[1]), f"unknown field, {suggest(unknown[1], known)}"
    if missing := _MISSING.fullmatch(what):
        return place.join(missing[1]), "is required and missing"
    if what.startswith("Invalid enum value") and (choices := _choices(place.type)):
        what = f"Expected one of {', '.join(choices)}"
    if what.startswith("Expected") and "`key`" not in text:
        return place.path, f"e{_GOT.sub('', what)[1:]}, got {_show(place.value)}"
    return place.path, f"a key: {what}" if "`key`" in text else what


def _split(text: str) -> tuple[str, str]:
    what, at, where = text.rpartition(" - at ")
    if at and where.endswith("`") and where.startswith(("`$", "`key` in `$")):
        return what, where.rpartition("`$")[2].rstrip("`")
    return text, ""


def _plain(hint: Any, value: object) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        return _plain(get_args(hint)[0], value)
    if origin is Union or origin is UnionType:
        members = [_plain(member, value) for member in get_args(hint)]
        return next((member for member in members if _fits(member, value)), members[0])
    return hint


def _fits(hint: Any, value: object) -> bool:
    """Whether msgspec would choose this member of a union for the value."""
    kind = get_origin(hint) or hint
    if isinstance(value, Mapping):
        if not _is_struct(kind):
            return kind is dict
        about = kind.__struct_config__
        return about.tag is None or bool(value.get(about.tag_field) == about.tag)
    if isinstance(value, list | tuple):
        return kind in (list, tuple, set, frozenset)
    return kind is Literal or (isinstance(kind, type) and isinstance(value, kind))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fields(hint: Any) -> dict[str, Any]:
    """The types of a struct's fields by their names in a document; of anything else, nothing."""
    kind = get_origin(hint) or hint
    if not _is_struct(kind):
        return {}
    hints = hints_of(kind, include_extras=True)
    names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    return {encoded: hints[name] for name, encoded in names}


def _first_wrong(data: Mapping[Any, object], hint: Any) -> object:
    """The key that msgspec means by `[...]`: it stops at the first value it cannot convert."""
    for key, value in data.items():
        try:
            msgspec.convert(value, hint, str_keys=True)
        except msgspec.ValidationError:
            return key
    return "..."


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [str(member.value) for member in hint]
    return []


def _show(value: object) -> str:
    """A value as its author wrote it, more or less, in a few characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a very large number"
    return text if len(text) <= 60 else f"{text[:57]}..."
