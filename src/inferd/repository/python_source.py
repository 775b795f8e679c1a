"""Models written in Python, found in their source without running any of it: classes that inherit
from inferd.Model, the options that are written out as their keywords, and which others they need.

It refuses to import a model's file: what only running it would tell is not known here.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from inferd.config.model import ModelConfig, ModelInstanceGroup
from inferd.config.strict import suggest
from inferd.errors import ConfigError
from inferd.repository.source import ModelSource, VersionSource, fingerprint

MOST_SOURCES = 500
"""Python files beside a model that are looked at for changes."""

_MUST_BE_LITERAL = ("name", "python", "requirements")
"""Options that are needed before the code can run."""

_CLASS_LINE = re.compile(r"^class\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_MODEL_AS = re.compile(r"\bModel\s+as\s+(\w+)")
_NAME_KEYWORD = re.compile(r"\bname\s*=\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True)
class PythonClass:
    """A model class. `options` are its keywords with plain values, those of its bases below them;
    `needs` are the classes that it depends on, by file and name."""

    file: Path
    name: str
    options: dict[str, object] = field(default_factory=dict)
    needs: tuple[tuple[Path, str], ...] = ()
    predicts: bool = False

    @property
    def path(self) -> Path:
        """How a source names it: `file.py:Class`."""
        return self.file.with_name(f"{self.file.name}:{self.name}")

    @property
    def served_name(self) -> str:
        """The name it is served under."""
        return str(self.options.get("name") or self.name)


def python_sources(file: Path, wanted: str = "") -> tuple[list[ModelSource], list[ModelSource]]:
    """The models of a file, or the one class that is wanted, and those that they depend on.

    A file that cannot be read as Python becomes sources with an error, under the names that its
    lines still show, so that what served under them goes on. Raises ConfigError for a class that
    is not there, and for a file without any.
    """
    try:
        classes = _Reader().classes(file)
        given = [_named(file, classes, wanted)] if wanted else _served(file, classes)
        needed = _needed(given)
    except SyntaxError as error:
        return _broken(file, wanted, error), []
    return [_source(found) for found in given], [_source(found) for found in needed]


def needed_sources(path: Path) -> list[ModelSource]:
    """The models that the one of `file.py:Class` depends on; raises ConfigError."""
    try:
        return [_source(found) for found in _needed([chosen_class(path)])]
    except SyntaxError as error:
        raise ConfigError(_syntax_text(path, error)) from error


def chosen_class(path: Path) -> PythonClass:
    """The model of `file.py:Class`, or the one of a file that no other in it depends on.

    Raises ConfigError, also for a file that is not Python.
    """
    file, _, wanted = path.name.partition(":")
    path = path.with_name(file)
    try:
        classes = _Reader().classes(path)
    except SyntaxError as error:
        raise ConfigError(_syntax_text(path, error)) from error
    if wanted:
        return _named(path, classes, wanted)
    served = _served(path, classes)
    inner = {need for found in served for need in found.needs}
    outer = [found for found in served if (found.file, found.name) not in inner]
    if len(outer) != 1:
        names = ", ".join(found.name for found in served)
        raise ConfigError(
            f"{path.name} has several models ({names}); say which: {path.name}:{served[0].name}",
            field="default_model_filename",
        )
    return outer[0]


def with_options(config: ModelConfig, found: PythonClass) -> ModelConfig:
    """A configuration completed by what the class says; what it says itself stays.

    Raises ConfigError naming the option of the class that has a wrong value.
    """
    unset = ModelConfig()
    said = dict(found.options)
    if "timeout_s" in said:
        said["timeout_secs"] = said.pop("timeout_s")
    if isinstance(said.get("requirements"), str):
        said["requirements"] = [said["requirements"]]
    chosen = {
        name: said[name]
        for name in ("isolation", "timeout_secs", "memory_limit_mb", "python", "requirements")
        if name in said and getattr(config, name) == getattr(unset, name)
    }
    instances = said.get("instances")
    try:
        values = msgspec.convert(chosen, ModelConfig)
        group = () if instances is None else (msgspec.convert({"count": instances},
                                                              ModelInstanceGroup),)  # fmt: skip
    except msgspec.ValidationError as error:
        raise ConfigError(f"class {found.name}: {error}", file=str(found.file)) from error
    changes: dict[str, object] = {name: getattr(values, name) for name in chosen}
    if group and not config.instance_group:
        changes["instance_group"] = group
    return msgspec.structs.replace(config, **changes)


def sources_beside(folder: Path) -> list[Path]:
    """The Python files of a folder and of the packages in it."""
    found: list[Path] = []
    waiting = [folder]
    while waiting and len(found) < MOST_SOURCES:
        here = waiting.pop()
        children = sorted(here.iterdir())
        found += [child for child in children if child.suffix == ".py"]
        waiting += [child for child in children if (child / "__init__.py").is_file()]
    return sorted(found[:MOST_SOURCES])


def _source(found: PythonClass) -> ModelSource:
    version = VersionSource(found.path, fingerprint(sources_beside(found.file.parent)))
    try:
        config = with_options(ModelConfig(), found)
    except ConfigError as error:
        return ModelSource(found.served_name, error=str(error))
    return ModelSource(found.served_name, config, "python", {1: version})


def _named(file: Path, classes: dict[str, PythonClass], wanted: str) -> PythonClass:
    if wanted not in classes:
        known = suggest(wanted, classes) if classes else "it has no subclass of inferd.Model"
        raise ConfigError(f"{file} has no model '{wanted}', {known}")
    return classes[wanted]


def _served(file: Path, classes: dict[str, PythonClass]) -> list[PythonClass]:
    served = [c for c in classes.values() if c.predicts and not c.name.startswith("_")]
    if not served:
        raise ConfigError(
            f"{file} has no model; expected a class that inherits from inferd.Model and has predict"
        )
    return served


def _needed(given: list[PythonClass]) -> list[PythonClass]:
    """What the given depend on, and what that depends on."""
    reader = _Reader()
    seen = {(found.file, found.name) for found in given}
    waiting = [need for found in given for need in found.needs]
    needed = []
    while waiting:
        file, name = waiting.pop()
        if (file, name) in seen:
            continue
        seen.add((file, name))
        classes = reader.classes(file)
        if name not in classes:
            raise ConfigError(f"inferd.depends({name}): {file} has no model of that name")
        found = classes[name]
        needed.append(found)
        waiting += found.needs
    return needed


def _broken(file: Path, wanted: str, error: SyntaxError) -> list[ModelSource]:
    text = file.read_text(encoding="utf-8", errors="replace")
    names: list[str] = []
    models = {"Model", "inferd.Model", *_MODEL_AS.findall(text)}
    for line in _CLASS_LINE.finditer(text):
        if wanted not in ("", line[1]):
            continue
        if wanted or not models.isdisjoint(part.strip() for part in line[2].split(",")):
            said = _NAME_KEYWORD.search(line[2])
            names.append(said[1] if said else line[1])
            models.add(line[1])
    reason = _syntax_text(file, error)
    return [ModelSource(name, error=reason) for name in names or [wanted or file.stem]]


def _syntax_text(file: Path, error: SyntaxError) -> str:
    where = error.filename or str(file)
    return f"{where}, line {error.lineno or 1}: {error.msg}"


class _Reader:
    """Reads files, each once, and what they import from files beside them."""

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, PythonClass]] = {}

    def classes(self, file: Path) -> dict[str, PythonClass]:
        """Model classes by name, in the order of the file; raises SyntaxError, ConfigError."""
        if file not in self._files:
            self._files[file] = {}  # for files that import each other
            self._read(file)
        return self._files[file]

    def _read(self, file: Path) -> None:
        try:
            tree = ast.parse(file.read_bytes(), filename=str(file))
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(file)) from error
        except ValueError as error:  # null bytes
            raise SyntaxError(str(error), (str(file), 1, 1, "")) from error
        imports = _Imports(file, tree)
        models = self._files[file]
        statements = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        defined = {node.name for node in statements}
        for node in statements:
            bases = [base for base in map(imports.resolve, node.bases) if base is not None]
            known = [self._base(base, file) for base in bases]
            if any(base == _MODEL for base in bases) or any(known):
                inherited = [base for base in known if base is not None]
                models[node.name] = _class(file, node, inherited, imports, defined)

    def _base(self, base: tuple[Path | None, str], file: Path) -> PythonClass | None:
        where, name = base
        if where is None:
            return None
        return self.classes(where).get(name)


_MODEL = (None, "inferd.Model")


class _Imports:
    """What names of a file mean: inferd's own, or a class of this file or one beside it."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        self._file = file
        self._names: dict[str, tuple[Path | None, str]] = {}
        self._modules: dict[str, Path | None] = {}
        for node in tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._module(alias.name, alias.asname or alias.name)
            elif isinstance(node, ast.ImportFrom) and node.level <= 1:
                for alias in node.names:
                    self._name(node.module or "", alias.name, alias.asname or alias.name)

    def _module(self, module: str, known_as: str) -> None:
        if module == "inferd":
            self._modules[known_as] = None
        elif (file := self._file.with_name(f"{module}.py")).is_file():
            self._modules[known_as] = file

    def _name(self, module: str, name: str, known_as: str) -> None:
        if module == "inferd":
            self._names[known_as] = (None, f"inferd.{name}")
        elif not module:  # from . import sibling
            self._module(name, known_as)
        elif (file := self._file.with_name(f"{module}.py")).is_file():
            self._names[known_as] = (file, name)

    def resolve(self, node: ast.expr) -> tuple[Path | None, str] | None:
        """File and name of what an expression names; None for the file means inferd."""
        if isinstance(node, ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name):
            return self._names.get(node.id, (self._file, node.id))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = node.value.id
            if module in self._modules:
                file = self._modules[module]
                return (None, f"inferd.{node.attr}") if file is None else (file, node.attr)
        return None


def _class(
    file: Path, node: ast.ClassDef, bases: list[PythonClass], imports: _Imports, defined: set[str]
) -> PythonClass:
    options: dict[str, object] = {}
    for base in reversed(bases):
        options |= {name: value for name, value in base.options.items() if name != "name"}
    for keyword in node.keywords:
        if keyword.arg is None:
            continue
        try:
            options[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            options.pop(keyword.arg, None)
            if keyword.arg in _MUST_BE_LITERAL:
                raise ConfigError(
                    f"class {node.name}: option '{keyword.arg}' is needed before the code runs; "
                    "write its value out",
                    file=f"{file}, line {keyword.value.lineno}",
                ) from None
    own = tuple(_dependencies(node, imports, defined, file))
    needs = (*(need for base in bases for need in base.needs), *own)
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    predicts = "predict" in methods or any(base.predicts for base in bases)
    return PythonClass(file, node.name, options, tuple(dict.fromkeys(needs)), predicts)


def _dependencies(
    node: ast.ClassDef, imports: _Imports, defined: set[str], file: Path
) -> Iterator[tuple[Path, str]]:
    for statement in node.body:
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Call) or not value.args:
            continue
        if imports.resolve(value.func) != (None, "inferd.depends"):
            continue
        found = imports.resolve(value.args[0])
        if isinstance(value.args[0], ast.Constant) and value.args[0].value in defined:
            found = (file, str(value.args[0].value))
        if found is not None and found[0] is not None:
            yield found[0], found[1]
