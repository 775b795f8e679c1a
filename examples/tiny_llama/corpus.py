"""The text that the model learns from: the language reference that `help()` prints and the
docstrings of the standard library. All of it comes with Python; nothing is downloaded or imported
to be read, apart from the modules in BUILT_IN, which are written in C.

It refuses to know tokens and chats.
"""

import ast
import builtins
import importlib
import inspect
import re
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

Kind = Literal["topic", "section", "method", "module", "class", "function", "greeting"]

BUILT_IN = (
    "builtins", "math", "cmath", "itertools", "operator", "functools", "collections", "time",
    "sys", "struct", "zlib", "binascii", "array", "gc", "signal", "select", "unicodedata",
)  # fmt: skip
LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "encodings", "ensurepip"}
)
LONGEST = 320
"""Characters of an answer; it ends with the paragraph before."""
SHORTEST = 40
HELD_OUT_SHARE = 20
"""One entry of the library in so many is kept from the training."""

_CODE = re.compile(r'"([^"\n]{1,40})"')
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
_HEADING = re.compile(r"^(\S.*)\n([*=\-^~])\2{2,}\n", re.MULTILINE)
_METHOD = re.compile(
    r"^(?:class |static |classmethod )?([a-z]\w*(?:\.\w+)+)\(.*\)\n"  # str.join(iterable)
    r"(?:[\w.]+\(.*\)\n)*\n"  # and other ways of calling it
    r"((?: {3}.*\n|\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that has a name, and what Python says of it."""

    name: str
    kind: Kind
    text: str

    @property
    def popular(self) -> bool:
        """Whether people ask for it: what is built in, and whole modules."""
        owner, _, rest = self.name.partition(".")
        built_in = isinstance(getattr(builtins, owner, None), type) or not rest
        return built_in or self.kind in ("topic", "section")

    @property
    def held_out(self) -> bool:
        """Whether the model never sees it in training; the same on every machine."""
        return not self.popular and zlib.crc32(self.text.encode()) % HELD_OUT_SHARE == 0


def reference() -> list[str]:
    """The chapters of the language reference, whole."""
    return [_ticked(topics[name]).translate(_QUOTES) for name in sorted(topics)]


def reference_entries() -> list[Entry]:
    """What the chapters are about: the chapters themselves, their sections, methods of types."""
    found: dict[str, Entry] = {}
    chapters = reference()
    for first in (True, False):  # a chapter of its own goes before a section of another
        for chapter in chapters:
            for number, (heading, text) in enumerate(_sections(chapter)):
                if (number == 0) is first:
                    kind: Kind = "topic" if first else "section"
                    _add(found, Entry(_plain(heading), kind, beginning(_without_grammar(text))))
    for match in _METHOD.finditer("\n\n".join(chapters)):
        _add(found, Entry(match[1], "method", beginning(inspect.cleandoc("\n" + match[2]))))
    return list(found.values())


def library_entries() -> list[Entry]:
    """Modules, classes, functions and methods of the standard library with their docstrings."""
    found: dict[str, Entry] = {}
    said: set[str] = set()
    for entry in (*_built_in_entries(), *_source_entries(Path(sysconfig.get_path("stdlib")))):
        if entry.text not in said:  # many only repeat what they override
            said.add(entry.text)
            _add(found, entry)
    return list(found.values())


def beginning(text: str) -> str:
    """The first paragraphs, as many as fit into LONGEST characters, or the first one cut."""
    kept, size = [], 0
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        size += len(paragraph) + 2
        if kept and size > LONGEST:
            break
        kept.append(paragraph.rstrip())
    answer = "\n\n".join(kept)
    if len(answer) > LONGEST:
        answer = answer[:LONGEST].rsplit(". ", 1)[0] + "."
    return answer


def _sections(chapter: str) -> Iterator[tuple[str, str]]:
    headings = list(_HEADING.finditer(chapter))
    ends = [match.start() for match in headings[1:]] + [len(chapter)]
    for match, end in zip(headings, ends, strict=True):
        yield match[1], chapter[match.end() : end]


def _without_grammar(text: str) -> str:
    return "\n\n".join(part for part in re.split(r"\n\s*\n", text.strip()) if "::=" not in part)


def _ticked(chapter: str) -> str:
    """Code in backticks, as one writes it in a question, where the chapter has it in quotes."""
    lines = chapter.split("\n")
    return "\n".join(line if "::=" in line or ">>>" in line else _CODE.sub(r"`\1`", line)
                     for line in lines)  # fmt: skip


def _plain(heading: str) -> str:
    """A heading as one says it in a sentence: "the `with` statement"."""
    for article in ("The ", "A ", "An "):
        if heading.startswith(article):
            return heading[0].lower() + heading[1:]
    return heading


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if len(entry.text) >= SHORTEST:
        found.setdefault(entry.name, entry)


def _built_in_entries() -> Iterator[Entry]:
    for module_name in BUILT_IN:
        module = importlib.import_module(module_name)
        prefix = "" if module_name == "builtins" else f"{module_name}."
        for name, value in sorted(vars(module).items()):
            text = inspect.getdoc(value)
            if name.startswith("_") or not callable(value) or not text:
                continue
            kind: Kind = "class" if isinstance(value, type) else "function"
            yield Entry(prefix + name, kind, beginning(text))
            if isinstance(value, type) and not issubclass(value, BaseException):
                yield from _methods(prefix + name, value)


def _methods(name: str, owner: type) -> Iterator[Entry]:
    for method, value in sorted(vars(owner).items()):
        text = getattr(value, "__doc__", None)
        if not method.startswith("_") and isinstance(text, str):
            yield Entry(f"{name}.{method}", "method", beginning(inspect.cleandoc(text)))


def _source_entries(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if LEFT_OUT.isdisjoint(parts) and not any(part.startswith("_") for part in parts):
            yield from _file_entries(".".join(parts), path)


def _file_entries(module: str, path: Path) -> Iterator[Entry]:
    tree = ast.parse(path.read_bytes())
    if text := ast.get_docstring(tree):
        yield Entry(module, "module", beginning(text.translate(_QUOTES)))
    yield from _body_entries(module, tree)


def _body_entries(prefix: str, parent: ast.Module | ast.ClassDef) -> Iterator[Entry]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        if text := ast.get_docstring(node):
            kind: Kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield Entry(name, kind, beginning(text.translate(_QUOTES)))
        if isinstance(node, ast.ClassDef):
            yield from _body_entries(name, node)
