"""A model that is a folder: of versions, as in a model repository, or a model itself.

<model>/config.yaml                 optional, Triton's field names
<model>/<version>/model.onnx        a file, a folder or a Python file with a name that says
                                    what it is (`formats.py`), or
<model>/<version>/                  itself what a framework saves as a folder
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.repository.formats import (
    ALIASES,
    BACKENDS,
    FOLDER_FORMATS,
    FORMATS,
    LLM,
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
    read_config,
    read_labels,
)
from inferd.repository.python_source import chosen_class, sources_beside, with_options
from inferd.repository.source import ModelSource, VersionSource, fingerprint

MOST_FILES = 10_000
"""Files of one version that are looked at for changes."""


def whole_folder_source(folder: Path, kind: FolderFormat) -> ModelSource:
    """A folder that a framework saved, as version 1 of a model named after it."""
    name = folder.resolve().name
    try:
        config = read_config(folder, FOLDER_CONFIG_NAMES)
        check_name(config, name)
        backend = ALIASES.get(config.backend, config.backend) or kind.backend
        if backend != kind.backend:
            what = "a language model" if kind.backend == LLM else "this folder"
            raise ConfigError(f"{what} needs '{kind.backend}'", field="backend")
        labels = read_labels(folder, config)
    except ConfigError as error:
        return ModelSource(name, error=str(error))
    files = list(folder.iterdir()) if backend == LLM else _files_below(folder)
    version = VersionSource(folder, fingerprint(sorted(f for f in files if f.is_file())))
    missing = ""
    if backend == LLM and not any(file.suffix == ".safetensors" for file in files):
        missing = "config.json names a language model, but there are no *.safetensors files"
    return ModelSource(name, config, backend, {1: version}, labels, missing)


def versioned_source(folder: Path) -> ModelSource:
    """A folder of versions; what is wrong with it is its error."""
    name = folder.resolve().name
    try:
        config = read_config(folder)
        check_name(config, name)
        backend = _backend(config, folder)
        labels = read_labels(folder, config)
        config_files = [folder / n for n in CONFIG_NAMES if (folder / n).is_file()]
        config_files += [folder / o.label_filename for o in config.output if o.label_filename]
        versions = {}
        for number, directory in sorted(versions_in(folder).items()):
            path = _model_in(directory, config, backend)
            if backend == PYTHON:
                found = chosen_class(path)
                path, config = found.path, with_options(config, found)
            files = [*config_files, *_version_files(directory, backend)]
            versions[number] = VersionSource(path, fingerprint(files))
    except ConfigError as error:
        return ModelSource(name, error=str(error))
    missing = "" if versions else "no version of the model in its folder (looked for 1/, 2/, ...)"
    return ModelSource(name, config, backend, versions, labels, missing)


def versions_in(folder: Path) -> dict[int, Path]:
    """Version folders: whole numbers from 1 without a leading zero; others are ignored."""
    return {
        int(child.name): child
        for child in folder.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.name[0] != "0" and child.is_dir()
    }


def _backend(config: ModelConfig, folder: Path) -> str:
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
        if Path(filename).name != filename or filename == "..":
            raise ConfigError(f"'{filename}' is not a plain name", field="default_model_filename")
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


def _version_files(directory: Path, backend: str) -> Iterable[Path]:
    return sources_beside(directory) if backend == PYTHON else _files_below(directory)


def _files_below(folder: Path) -> list[Path]:
    found = []
    for file in folder.rglob("*"):
        if file.is_file():
            found.append(file)
        if len(found) == MOST_FILES:
            break
    return sorted(found)
