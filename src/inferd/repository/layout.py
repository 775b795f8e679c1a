"""The layouts that hold models: a file, a folder of files, a model's folder, a repository.

    model.onnx                                   one model, version 1, named after the file
    name=model.onnx                              the same, under a name of your own
    app.py, app.py:Classifier                    the models written in it, or the one
    folder/a.onnx, folder/b.json                 several models
    folder/saved_model.pb                        what a framework saves as a folder: SavedModel,
    folder/MLmodel                               MLflow, Hugging Face's encoders and language
    folder/config.json, folder/*.safetensors     models; named after the folder, or one of several
                                                 in a folder, or a <version>
    repository/<model>/<version>/model.onnx      a model repository, as Triton's
    repository/<model>/config.yaml, config.pbtxt optional, Triton's field names

Looking never raises for one bad model: it becomes a ModelSource with an error, so that its
neighbours are served; a path that was named and holds no model at all is a ConfigError. Which file
is a model of what is said in `formats.py`. This module refuses to load models and to decide which
versions are served.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from inferd.errors import ConfigError
from inferd.repository.formats import (
    PYTHON,
    SUFFIXES,
    Format,
    check_content,
    of_suffix,
    recognise,
    recognise_folder,
)
from inferd.repository.model_config import config_files
from inferd.repository.model_folder import versioned_source, versions_in, whole_folder_source
from inferd.repository.python_source import needed_sources, python_sources
from inferd.repository.source import ModelSource, VersionSource, fingerprint

LOST_FOUND = "lost+found"
"""What a file system has of its own, for nobody to read, where all of it is a repository."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How models' configurations are read: `config_name` is the one to prefer
    (`configs/NAME.pbtxt`); without `auto_complete` a model whose configuration does not say its
    inputs and outputs has an error."""

    config_name: str = ""
    auto_complete: bool = True


READING = Reading()
"""As it is where nobody says."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a path holds; `implied` are models that those need."""

    given: list[ModelSource]
    implied: list[ModelSource] = field(default_factory=list)


def scan(paths: Iterable[Path], reading: Reading = READING) -> dict[str, ModelSource]:
    """Every model under the given paths by name; raises ConfigError for a path that is no model.

    A path may be written `name=path` where it holds one model, and `file.py:Class`.
    """
    sources: dict[str, ModelSource] = {}
    implied: list[ModelSource] = []
    for path in paths:
        found = _scan_path(path, reading.config_name)
        implied += found.implied
        for source in found.given:
            if source.name in sources:
                source = ModelSource(
                    source.name,
                    error=f"model '{source.name}' is found twice; rename one of them, for example "
                    f"with other={path}",
                )
            sources[source.name] = source
    for source in implied:
        sources.setdefault(source.name, source)
    return sources if reading.auto_complete else {n: _complete(s) for n, s in sources.items()}


def _complete(source: ModelSource) -> ModelSource:
    """A source whose configuration says all that a model could say by itself, or an error."""
    config = source.config
    missing = [name for name in ("input", "output") if not getattr(config, name)]
    if source.error or not missing:
        if config.max_batch_size is None:
            source = replace(source, config=msgspec.structs.replace(config, max_batch_size=0))
        return source
    why = "is needed where configurations are not completed (--disable-auto-complete-config)"
    return ModelSource(source.name, error=str(ConfigError(why, field=missing[0])))


def _scan_path(written: Path, config_name: str) -> _Found:
    try:
        name, path, wanted = _read_path(written)
        if path.suffix == ".py" and path.is_file():
            found = _Found(*python_sources(path, wanted))
        else:
            found = _with_needed(list(_models_at(path, config_name)))
    except OSError as error:
        raise ConfigError(_unreadable(written, error)) from error
    if not name:
        return found
    if len(found.given) != 1:
        names = ", ".join(source.name for source in found.given) or "none"
        raise ConfigError(f"{written}: a name is for one model, and there are: {names}")
    return replace(found, given=[replace(found.given[0], name=name)])


def _with_needed(sources: list[ModelSource]) -> _Found:
    """Sources, and what the Python models among them depend on."""
    found = _Found([])
    for source in sources:
        if source.backend == PYTHON and source.versions and not source.error:
            try:
                found.implied.extend(needed_sources(source.versions[max(source.versions)].path))
            except ConfigError as error:
                source = ModelSource(source.name, error=str(error))
        found.given.append(source)
    return found


def _read_path(written: Path) -> tuple[str, Path, str]:
    """Name, path and class of `name=path` and `path:Class`; a path that exists is only a path."""
    if written.exists():
        return "", written, ""
    name, equals, rest = str(written).partition("=")
    path = Path(rest).expanduser() if equals else written
    if not equals or "/" in name:
        name, path = "", written
    elif not name.strip() or not rest:
        raise ConfigError(f"{written}: expected name=path")
    file, colon, wanted = str(path).rpartition(":")
    if colon and not path.exists() and file.endswith(".py"):
        if not wanted.isidentifier():
            raise ConfigError(f"{written}: '{wanted}' is no name of a class")
        return name, Path(file), wanted
    return name, path, ""


def _models_at(path: Path, config_name: str) -> Iterator[ModelSource]:
    if path.is_file():
        yield _file_source(path, _known(path))
        return
    if not path.is_dir():
        raise ConfigError(f"{path} does not exist; give a model file or a folder of models")
    whole = recognise_folder(path)
    if whole is not None:
        yield whole_folder_source(path, whole, config_name)
    elif versions_in(path):
        yield versioned_source(path, config_name)
    else:
        for child in sorted(path.iterdir()):
            yield from _child_file(child)
        for child in sorted(path.iterdir()):
            yield from _child_folder(child, config_name)


def _child_file(path: Path) -> Iterator[ModelSource]:
    """A file among others: one that is named as only models are, and is none, is told."""
    kinds = of_suffix(path)
    if not kinds or not path.is_file():
        return
    kind = recognise(path)
    if kind is None and all(kind.shared for kind in kinds):
        return
    try:
        yield _file_source(path, _known(path))
    except ConfigError as error:
        yield ModelSource(path.stem, error=str(error))


def _child_folder(path: Path, config_name: str) -> Iterator[ModelSource]:
    """A folder among others: one that cannot be read may be a model, and is told."""
    if not path.is_dir() or path.name == LOST_FOUND:
        return
    try:
        whole = recognise_folder(path)
        if whole is not None:
            yield whole_folder_source(path, whole, config_name)
        elif versions_in(path) or config_files(path, config_name=config_name):
            yield versioned_source(path, config_name)
    except OSError as error:
        yield ModelSource(path.name, error=_unreadable(path, error))


def _unreadable(path: Path, error: OSError) -> str:
    return f"{error.filename or path} cannot be read: {error.strerror}"


def _known(path: Path) -> Format:
    """What a file is that was named; raises ConfigError."""
    kind = check_content(path)
    if kind is None:
        raise ConfigError(f"{path} is not a model file that inferd knows ({', '.join(SUFFIXES)})")
    return kind


def _file_source(path: Path, kind: Format) -> ModelSource:
    files = [path, path.with_suffix(kind.beside)] if kind.beside else [path]
    version = VersionSource(path, fingerprint(files))
    return ModelSource(path.stem, backend=kind.backend, versions={1: version})
