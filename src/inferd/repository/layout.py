"""The folder layouts that hold models: a model file, a folder of them, a model, a repository.

    model.onnx                                   one model, version 1, named after the file
    folder/a.onnx, folder/b.json                 several models
    repository/<model>/config.yaml               optional, Triton's field names
    repository/<model>/<version>/model.onnx      a model repository, as Triton's
    folder/config.json, folder/*.safetensors     a language model, named after the folder, as
                                                 transformers saves it; it may also be a <version>,
                                                 or one of several in a folder

Looking never raises for one bad model: it becomes a ModelSource with an error, so that its
neighbours are served. Which file is a model of what is said in `formats.py`. This module refuses to
load models and to decide which versions are served.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferd.config.engine import EngineConfig
from inferd.config.model import ModelConfig, in_field_names, without_defaults
from inferd.config.strict import decode_struct, read_document
from inferd.errors import ConfigError
from inferd.repository.formats import (
    BACKENDS,
    PLATFORMS,
    SUFFIXES,
    Format,
    filenames,
    of_suffix,
    recognise,
)

CONFIG_NAMES = ("config.yaml", "config.yml", "config.json")
LLM = "llm"
LLM_CONFIG_NAMES = CONFIG_NAMES[:2]
"""Beside a language model's weights, config.json is the model's own."""

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, modification time in nanoseconds and size of each file that makes up a version."""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """One version on disk: the file to load and what it looked like."""

    path: Path
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on disk. `error` says why it cannot be served; then `versions` may be empty."""

    name: str
    config: ModelConfig = field(default_factory=ModelConfig)
    backend: str = ""
    versions: dict[int, VersionSource] = field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""


def scan(paths: Iterable[Path]) -> dict[str, ModelSource]:
    """Every model under the given paths by name; raises ConfigError for a path that is no model."""
    sources: dict[str, ModelSource] = {}
    for path in paths:
        for source in _scan_path(path):
            if source.name in sources:
                source = ModelSource(
                    source.name, error=f"model '{source.name}' is found twice; rename one of them"
                )
            sources[source.name] = source
    return sources


def _scan_path(path: Path) -> Iterator[ModelSource]:
    if path.is_file():
        yield _file_source(path, _known(path))
    elif not path.is_dir():
        raise ConfigError(f"{path} does not exist; give a model file or a folder of models")
    elif _is_language_model(path):
        yield _language_model_source(path)
    elif _versions_in(path):
        yield _folder_source(path)
    else:
        for child in sorted(path.iterdir()):
            kind = recognise(child)
            if kind is not None:
                yield _file_source(child, kind)
        for child in sorted(path.iterdir()):
            if not child.is_dir():
                continue
            if _is_language_model(child):
                yield _language_model_source(child)
            elif _versions_in(child) or _config_in(child):
                yield _folder_source(child)


def _known(path: Path) -> Format:
    """What a file is that was named; raises ConfigError."""
    kind = recognise(path)
    if kind is not None:
        return kind
    by_name = " or ".join(dict.fromkeys(kind.backend for kind in of_suffix(path)))
    if by_name:
        raise ConfigError(
            f"{path} does not begin as a model of {by_name} does, which its name says"
        )
    raise ConfigError(f"{path} is not a model file that inferd knows ({', '.join(SUFFIXES)})")


def _file_source(path: Path, kind: Format) -> ModelSource:
    version = VersionSource(path, _fingerprint([path]))
    return ModelSource(path.stem, backend=kind.backend, versions={1: version})


def _language_model_source(folder: Path) -> ModelSource:
    name = folder.resolve().name
    try:
        config = _read_config(folder, LLM_CONFIG_NAMES)
        _check_name(config, name)
        if (config.backend or LLM) != LLM:
            raise ConfigError(f"a language model needs '{LLM}'", field="backend")
    except ConfigError as error:
        return ModelSource(name, error=str(error))
    files = sorted(f for f in folder.iterdir() if f.is_file())
    missing = ""
    if not any(file.suffix == ".safetensors" for file in files):
        missing = "config.json names a language model, but there are no *.safetensors files"
    version = VersionSource(folder, _fingerprint(files))
    return ModelSource(name, config, LLM, {1: version}, error=missing)


def _is_language_model(folder: Path) -> bool:
    """Whether config.json names an architecture, as transformers writes it, and no other model is
    there. Which architectures there are is the engine's to say."""
    file = folder / "config.json"
    if not file.is_file():
        return False
    try:
        names = json.loads(file.read_bytes()).get("architectures")
    except (OSError, ValueError, RecursionError, AttributeError):
        return False
    if not names:
        return False
    children = list(folder.iterdir())
    weights = any(child.suffix == ".safetensors" for child in children)
    return weights or not any(recognise(child) for child in children)


def _check_name(config: ModelConfig, name: str) -> None:
    if config.name and config.name != name:
        raise ConfigError(f"is '{config.name}', the folder is named '{name}'", field="name")


def _folder_source(folder: Path) -> ModelSource:
    name = folder.resolve().name
    try:
        config = _read_config(folder)
        _check_name(config, name)
        backend = _backend(config, folder)
        filename = _filename(config, backend, folder)
        labels = _read_labels(folder, config)
    except ConfigError as error:
        return ModelSource(name, error=str(error))
    names = (*CONFIG_NAMES, *(output.label_filename for output in config.output))
    config_files = [folder / n for n in names if n and (folder / n).is_file()]
    versions = {}
    for number, directory in _versions_in(folder).items():
        files = [*config_files, *sorted(f for f in directory.rglob("*") if f.is_file())]
        versions[number] = VersionSource(directory / filename, _fingerprint(files))
    missing = "" if versions else "no version of the model in its folder (looked for 1/, 2/, ...)"
    return ModelSource(name, config, backend, versions, labels, missing)


def _versions_in(folder: Path) -> dict[int, Path]:
    """Version folders: whole numbers from 1 without a leading zero; others are ignored."""
    return {
        int(child.name): child
        for child in folder.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.name[0] != "0" and child.is_dir()
    }


def _config_in(folder: Path, names: Iterable[str] = CONFIG_NAMES) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_config(folder: Path, names: Iterable[str] = CONFIG_NAMES) -> ModelConfig:
    path = _config_in(folder, names)
    if path is None:
        if (folder / "config.pbtxt").is_file():
            raise ConfigError(
                "config.pbtxt is not read yet; write the same fields as YAML",
                file=str(folder / "config.yaml"),
            )
        return ModelConfig()
    document = read_document(path)
    return decode_model_config(document if document is not None else {}, file=str(path))


def decode_model_config(document: object, *, file: str, strict: bool = True) -> ModelConfig:
    """A model's configuration from plain data; raises ConfigError naming file, field and fix.

    Not strict is how it comes through the load API: protobuf's JSON, with camelCase names and
    numbers as text.
    """
    if not strict:
        document = in_field_names(document)
    document = without_defaults(document, file=file)
    config = decode_struct(document, ModelConfig, file=file, strict=strict)
    decode_struct(config.engine, EngineConfig, file=file, field="engine", strict=strict)
    return config


def _backend(config: ModelConfig, folder: Path) -> str:
    if config.backend:
        return config.backend
    if config.platform:
        if config.platform not in PLATFORMS:
            known = ", ".join(PLATFORMS)
            raise ConfigError(f"unknown platform '{config.platform}'; known: {known}",
                              field="platform")  # fmt: skip
        return PLATFORMS[config.platform]
    if any(_is_language_model(version) for version in _versions_in(folder).values()):
        return LLM
    if config.default_model_filename:
        return _known_name(config.default_model_filename)
    names = _names_in_versions(folder)
    for backend in BACKENDS:
        if not names.isdisjoint(filenames(backend)):
            return backend
    expected = ", ".join(filenames(backend)[0] for backend in BACKENDS)
    raise ConfigError(
        f"no model file in {folder.name}'s versions; expected one named {expected}, or a language "
        "model's config.json and *.safetensors"
    )


def _names_in_versions(folder: Path) -> set[str]:
    return {file.name for version in _versions_in(folder).values() for file in version.iterdir()}


def _known_name(filename: str) -> str:
    """The backend of a file of that name."""
    kinds = of_suffix(Path(filename))
    if not kinds:
        raise ConfigError(
            f"'{filename}' does not say what it is (known: {', '.join(SUFFIXES)}); name a backend",
            field="default_model_filename",
        )
    return kinds[0].backend


def _filename(config: ModelConfig, backend: str, folder: Path) -> str:
    if backend == LLM:
        return ""  # the folder itself is the model
    usual = filenames(backend)
    names = _names_in_versions(folder)
    there = [name for name in usual if name in names]
    filename = config.default_model_filename or next(iter((*there, *usual)), "")
    if not filename:
        raise ConfigError(
            f"'{backend}' is not one that inferd brings ({', '.join(BACKENDS)}); a backend of your "
            "own also needs default_model_filename",
            field="backend",
        )
    if Path(filename).name != filename or filename == "..":
        raise ConfigError(f"'{filename}' is not a plain name", field="default_model_filename")
    return filename


def _read_labels(folder: Path, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    labels = {}
    for output in config.output:
        if output.label_filename:
            path = folder / output.label_filename
            if path.parent != folder or not path.is_file():
                raise ConfigError(
                    f"'{output.label_filename}' is not a file beside the configuration",
                    field="output.label_filename",
                )
            try:
                labels[output.name] = tuple(path.read_text(encoding="utf-8").splitlines())
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"cannot be read as text: {error}", file=str(path), field="label_filename"
                ) from error
    return labels


def _fingerprint(files: Iterable[Path]) -> Fingerprint:
    marks = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue  # gone between listing and looking: the next look sees it
        marks.append((str(file), stat.st_mtime_ns, stat.st_size))
    return tuple(marks)
