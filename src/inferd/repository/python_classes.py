"""The model classes of a Python file, read from its source without running any of it: those that
inherit from inferd.Model, here or in files beside it, or are for Triton's Python backend, the
options that are written out as their keywords, and which other models they need.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferd.errors import ConfigError

TRITON_CLASS = "TritonPythonModel"
"""The class of a file for Triton's Python backend; it inherits from nothing of inferd's."""

_MUST_BE_LITERAL = ("name", "python", "requirements", "isolation")
"""Options that are needed before the code can run."""


@dataclass(frozen=True, slots=True)
class PythonClass:
    """A model class. `options` are its keywords with plain values, those of its bases below them;
    `needs` are the classes that it depends on, file and name by attribute."""

    file: Path
    name: str
    options: dict[str, object] = field(default_factory=dict)
    needs: dict[str, tuple[Path, str]] = field(default_factory=dict)
    predicts: bool = False

    @property
    def path(self) -> Path:
        """How a source names it: `file.py:Class`."""
        return self.file.with_name(f"{self.file.name}:{self.name}")

    @property
    def served_name(self) -> str:
        """The name it is served under."""
        return str(self.options.get("name") or self.name)


class ClassReader:
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
        except (RecursionError, MemoryError) as error:
            told = "nested too deeply, or too large, to be read"
            raise SyntaxError(told, (str(file), 1, 1, "")) from error
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

        if TRITON_CLASS not in models and any(_binds_triton(node) for node in ast.walk(tree)):
            models[TRITON_CLASS] = PythonClass(file, TRITON_CLASS, predicts=True)

    def _base(self, base: tuple[Path | None, str], file: Path) -> PythonClass | None:
        where, name = base
        if where is None:
            return None
        return self.classes(where).get(name)


def _binds_triton(node: ast.AST) -> bool:
    """Whether a statement makes the class of Triton's: by class, by import, by another name."""
    if isinstance(node, ast.ClassDef):
        return node.name == TRITON_CLASS
    if isinstance(node, ast.ImportFrom):
        return any((alias.asname or alias.name) == TRITON_CLASS for alias in node.names)
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) and t.id == TRITON_CLASS for t in node.targets)
    return False


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
        elif (file := self._beside(module)) is not None:
            self._modules[known_as] = file

    def _name(self, module: str, name: str, known_as: str) -> None:
        if module in ("inferd", "inferd.sdk"):
            self._names[known_as] = (None, f"inferd.{name}")
        elif not module:  # from . import sibling
            self._module(name, known_as)
        elif (file := self._beside(module)) is not None:
            self._names[known_as] = (file, name)

    def _beside(self, module: str) -> Path | None:
        """The file of a module, or of a package, that stands beside this one."""
        place = self._file.parent.joinpath(*module.split("."))
        files = (place.with_suffix(".py"), place / "__init__.py")
        return next((file for file in files if file.is_file()), None)

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
        except (ValueError, TypeError):  # TypeError: what is written out cannot be made
            options.pop(keyword.arg, None)
            if keyword.arg in _MUST_BE_LITERAL:
                raise ConfigError(
                    f"class {node.name}: option '{keyword.arg}' is needed before the code runs; "
                    "write its value out",
                    file=f"{file}, line {keyword.value.lineno}",
                ) from None
    needs: dict[str, tuple[Path, str]] = {}
    for base in reversed(bases):
        needs |= base.needs
    needs |= _dependencies(node, imports, defined, file)
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    predicts = "predict" in methods or any(base.predicts for base in bases)
    return PythonClass(file, node.name, options, needs, predicts)


def _dependencies(
    node: ast.ClassDef, imports: _Imports, defined: set[str], file: Path
) -> Iterator[tuple[str, tuple[Path, str]]]:
    for statement in node.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        value = statement.value
        if not isinstance(value, ast.Call) or not value.args:
            continue
        if imports.resolve(value.func) != (None, "inferd.depends"):
            continue
        found = imports.resolve(value.args[0])
        if isinstance(value.args[0], ast.Constant) and value.args[0].value in defined:
            found = (file, str(value.args[0].value))
        if found is not None and found[0] is not None:
            yield ast.unparse(target), (found[0], found[1])
