"""A model that is a folder: of versions, as in a model repository, or a model itself.

<model>/config.yaml, config.pbtxt   optional, Triton's field names
<model>/configs/NAME.pbtxt          another one, for --model-config-name NAME
<model>/<version>/model.onnx        a file, a folder or a Python file with a name that says
                                    what it is (`formats.py`), or
<model>/<version>/                  itself what a framework saves as a folder

An ensemble has no files: its versions are empty folders, or version 1 without any.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.repository.formats import (
    ALIASES,
    BACKENDS,
    ENSEMBLE,
    FIL,
    FIL_TYPES,
    FOLDER_FORMATS,
    FORMATS,
    LLM,
    NOT_HERE,
    PLATFORMS,
    PYTHON,
    PYTHON_NAME,
    SUFFIXES,
    FolderFormat,
    filenames,
    is_folder_backend,
    of_suffix,
    recognise,
    recognise_folder,
)
from inferd.repository.model_config import (
    CONFIG_NAMES,
    FOLDER_CONFIG_NAMES,
    check_name,
    is_below,
    read_config,
    read_labels,
)
from inferd.repository.python_source import chosen_class, with_options
from inferd.repository.source import ModelSource, VersionSource, fingerprint

if TYPE_CHECKING:
    from inferd.repository.sent_files import SentFiles

MOST_FILES = 10_000
"""Files of one version, and beside all of them, that are looked at for changes."""


def whole_folder_source(folder: Path, kind: FolderFormat, config_name: str = "") -> ModelSource:
    """A folder that a framework saved, as version 1 of a model named after it; what is wrong with
    it is its error."""
    name = folder.resolve().name
    try:
        config = read_config(folder, FOLDER_CONFIG_NAMES, config_name)
        return _described_whole(folder, kind, name, config)
    except ConfigError as error:
        return ModelSource(name, error=str(error), folder=folder)


def _described_whole(
    folder: Path, kind: FolderFormat, name: str, config: ModelConfig
) -> ModelSource:
    check_name(config, name)
    backend = ALIASES.get(config.backend, config.backend) or kind.backend
    if backend != kind.backend:
        what = "a language model" if kind.backend == LLM else "this folder"
        raise ConfigError(f"{what} needs '{kind.backend}'", field="backend")
    named = config.default_model_filename
    if named and (recognise(folder / named) or not (folder / named).exists()):
        raise ConfigError(
            f"'{named}' is not what {backend} loads, which is this folder as a whole; take it "
            "out, or put the file into a folder called 1",
            field="default_model_filename",
        )
    labels = read_labels(folder, config)
    files = sorted(folder.iterdir()) if backend == LLM else _files_below(folder)
    version = VersionSource(folder, fingerprint(f for f in files if f.is_file()))
    missing = ""
    if backend == LLM and not any(file.suffix == ".safetensors" for file in files):
        missing = "config.json names a language model, but there are no *.safetensors files"
    return ModelSource(name, config, backend, {1: version}, labels, missing, folder)


def versioned_source(folder: Path, config_name: str = "") -> ModelSource:
    """A folder of versions; what is wrong with it is its error."""
    name = folder.resolve().name
    try:
        return described_source(folder, name, read_config(folder, CONFIG_NAMES, config_name))
    except ConfigError as error:
        return ModelSource(name, error=str(error), folder=folder)


def with_config(source: ModelSource, config: ModelConfig) -> ModelSource:
    """A model with this configuration in place of its own, which may be what is wrong with it;
    raises ConfigError."""
    folder = source.folder
    if folder is None:
        check_name(config, source.name)
        return replace(source, config=config)
    kind = recognise_folder(folder)
    if kind is not None:
        return _described_whole(folder, kind, source.name, config)
    return described_source(folder, source.name, config)


def described_source(
    folder: Path, name: str, config: ModelConfig, sent: "SentFiles | None" = None
) -> ModelSource:
    """A folder of versions whose configuration is known; raises ConfigError.

    As in Triton, a version looks different whatever has changed in the folder, but for what belongs
    to other versions alone.
    """
    check_name(config, name)
    backend = _backend(config, folder)
    labels = read_labels(folder, config)
    numbers = versions_in(folder)
    beside = fingerprint(_files_below(folder, numbers.values()))
    versions = {}
    if backend == ENSEMBLE:
        at = numbers or {1: folder}
        versions = {number: VersionSource(path, beside) for number, path in at.items()}
        return ModelSource(name, config, backend, versions, labels, "", folder, sent)
    for number, directory in sorted(numbers.items()):
        path = _model_in(directory, config, backend)
        if backend == PYTHON:
            found = chosen_class(path)
            path, config = found.path, with_options(config, found)
        mark = fingerprint(_files_below(directory))
        versions[number] = VersionSource(path, beside + mark)
    missing = "" if versions else "no version of the model in its folder (looked for 1/, 2/, ...)"
    return ModelSource(name, config, backend, versions, labels, missing, folder, sent)


def versions_in(folder: Path) -> dict[int, Path]:
    """Version folders: whole numbers from 1 without a leading zero; others are ignored."""
    return {
        int(child.name): child
        for child in folder.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.name[0] != "0" and child.is_dir()
    }


def _backend(config: ModelConfig, folder: Path) -> str:
    named = config.backend or config.platform
    if named in NOT_HERE:
        field = "backend" if config.backend else "platform"
        raise ConfigError(f"'{named}': {NOT_HERE[named]}", field=field)
    if config.backend == FIL:
        return _forest(config, folder)
    if config.ensemble_scheduling is not None and config.platform != ENSEMBLE:
        raise ConfigError(
            f"is '{config.platform}', with ensemble_scheduling it has to be '{ENSEMBLE}'",
            field="platform",
        )
    if config.backend:
        return ALIASES.get(config.backend, config.backend)
    if config.platform:
        if config.platform not in PLATFORMS:
            known = ", ".join(PLATFORMS)
            raise ConfigError(f"unknown platform '{config.platform}'; known: {known}",
                              field="platform")  # fmt: skip
        return PLATFORMS[config.platform]
    if config.default_model_filename:
        return _named_backend(folder, config.default_model_filename)
    return _found_backend(folder)


def _forest(config: ModelConfig, folder: Path) -> str:
    """The backend of a model of Triton's `fil`."""
    for name in ("output_class", "predict_proba"):
        if config.parameter(name, "false").lower() != "false":
            raise ConfigError(
                "is not done: the model's own numbers are answered, which for a classifier are "
                "probabilities; take it out, or write a Python model that chooses",
                field=f"parameters.{name}",
            )
    if not config.parameter("model_type"):
        return _found_backend(folder)
    kind = config.parameter("model_type")
    if kind not in FIL_TYPES:
        raise ConfigError(
            f"'{kind}' is not read; there are: {', '.join(FIL_TYPES)}",
            field="parameters.model_type",
        )
    return FIL_TYPES[kind]


def _found_backend(folder: Path) -> str:
    """The backend of what lies in the newest version."""
    for directory in _newest_first(folder):
        found = next(_models_in(directory), "")
        if found:
            return found
    names = {file.name for directory in _newest_first(folder) for file in directory.iterdir()}
    for backend in BACKENDS:  # what is named as a model and holds none: its backend will say so
        if not names.isdisjoint(filenames(backend)):
            return backend
    expected = ", ".join(filenames(name)[0] for name in BACKENDS if filenames(name))
    raise ConfigError(
        f"no model file in {folder.name}'s versions; expected one named {expected}, a folder of "
        "Hugging Face or MLflow, or a language model's config.json and *.safetensors"
    )


def _newest_first(folder: Path) -> list[Path]:
    return [directory for _, directory in sorted(versions_in(folder).items(), reverse=True)]


def _models_in(directory: Path) -> Iterator[str]:
    """Backends of what lies in a version's folder, the surest first."""
    whole = recognise_folder(directory)
    if whole is not None:
        yield whole.backend
    for kind in FORMATS:
        for name in kind.names:
            found = recognise(directory / name)
            if found is not None:
                yield found.backend
    for folder_kind in FOLDER_FORMATS:
        for name in folder_kind.names:
            if (directory / name).is_dir() and folder_kind.is_sign(directory / name):
                yield folder_kind.backend
    if (directory / PYTHON_NAME).is_file():
        yield PYTHON


def _named_backend(folder: Path, filename: str) -> str:
    """The backend of a file or folder of that name."""
    filename = filename.partition(":")[0]
    if filename.endswith(".py"):
        return PYTHON
    paths = [directory / filename for directory in _newest_first(folder)]
    for path in paths:
        kind = recognise_folder(path) if path.is_dir() else recognise(path)
        if kind is not None:
            return kind.backend
    kinds = of_suffix(Path(filename))
    if not kinds:
        raise ConfigError(
            f"'{filename}' does not say what it is (known: {', '.join(SUFFIXES)}); name a backend",
            field="default_model_filename",
        )
    return kinds[0].backend


def _model_in(directory: Path, config: ModelConfig, backend: str) -> Path:
    """What of a version's folder is the model; it may be missing."""
    filename = config.default_model_filename
    if filename:
        if not is_below(filename):
            told = f"'{filename}' is not within the version's folder"
            raise ConfigError(told, field="default_model_filename")
        if backend == LLM and (directory / filename).is_file():
            return directory  # a language model is its folder, whichever of its files is named
        return directory / filename
    usual = filenames(backend)
    if not usual and not is_folder_backend(backend):
        raise ConfigError(
            f"'{backend}' is not one that inferd brings ({', '.join(BACKENDS)}); a backend of your "
            "own also needs default_model_filename",
            field="backend",
        )
    there = [directory / name for name in usual if (directory / name).exists()]
    fitting = [path for path in there if recognise(path) or path.is_dir()]
    if is_folder_backend(backend) and not there:
        return directory
    return next(iter((*fitting, *there)), directory / usual[0])


def _files_below(folder: Path, but: Collection[Path] = ()) -> list[Path]:
    """Files of a folder and of those in it, `but` some, each folder's own first; not what Python
    keeps of sources that it has run."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        place = Path(here)
        folders[:] = sorted(f for f in folders if f != "__pycache__" and place / f not in but)
        found += [place / file for file in sorted(files)]
        if len(found) >= MOST_FILES:
            break
    return found[:MOST_FILES]
