"""Models written in Python as sources: of a whole file or of one class, with those that they need,
and with the options of a class that the server has to know before the code runs.

It refuses to import a model's file: what only running it would tell is not known here.
"""

import re
from pathlib import Path

import msgspec

from inferd.config.model import ModelConfig
from inferd.config.scheduling import ModelInstanceGroup
from inferd.config.strict import suggest
from inferd.errors import ConfigError
from inferd.repository.python_classes import TRITON_CLASS, ClassReader, PythonClass
from inferd.repository.source import ModelSource, VersionSource, fingerprint

MOST_SOURCES = 500
"""Python files beside a model that are looked at for changes."""

_CLASS_LINE = re.compile(r"^class\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_MODEL_AS = re.compile(r"\bModel\s+as\s+(\w+)")
_NAME_KEYWORD = re.compile(r"\bname\s*=\s*['\"]([^'\"]+)['\"]")


def python_sources(file: Path, wanted: str = "") -> tuple[list[ModelSource], list[ModelSource]]:
    """The models of a file, or the one class that is wanted, and those that they depend on.

    A file that cannot be read as Python becomes sources with an error, under the names that its
    lines still show, so that what served under them goes on. Raises ConfigError for a class that
    is not there, and for a file without any.
    """
    try:
        classes = ClassReader().classes(file)
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
        classes = ClassReader().classes(path)
    except SyntaxError as error:
        raise ConfigError(_syntax_text(path, error)) from error
    if wanted:
        return _named(path, classes, wanted)
    served = _served(path, classes)
    inner = {need for found in served for need in found.needs.values()}
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
            f"{file} has no model; expected a class that inherits from inferd.Model and has "
            f"predict, or Triton's {TRITON_CLASS}"
        )
    return served


def _needed(given: list[PythonClass]) -> list[PythonClass]:
    """What the given depend on, and what that depends on."""
    reader = ClassReader()
    seen = {(found.file, found.name) for found in given}
    waiting = [need for found in given for need in found.needs.values()]
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
        waiting += found.needs.values()
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
