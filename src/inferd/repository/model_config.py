"""Reads the configuration and the labels that stand beside a model. It refuses to know what they
are of.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from inferd.config.engine import EngineConfig
from inferd.config.model import ModelConfig, check_refused, in_field_names
from inferd.config.pbtxt import SUFFIX, as_triton_reads, read_pbtxt
from inferd.config.scheduling import ModelDynamicBatching, check_batching, check_instances
from inferd.config.strict import decode_struct, read_document
from inferd.config.tensors import check_tensors
from inferd.errors import ConfigError

CONFIG_NAMES = ("config.yaml", "config.yml", "config.json", "config.pbtxt")
FOLDER_CONFIG_NAMES = ("config.yaml", "config.yml", "config.pbtxt")
"""Beside the weights of a model that is a folder, config.json is the model's own."""

NAMED_CONFIGS = "configs"
"""Where a model's folder has configurations with names of their own, as --model-config-name."""


def config_files(
    folder: Path, names: Iterable[str] = CONFIG_NAMES, config_name: str = ""
) -> list[Path]:
    """The files that could be a folder's configuration, the one that is meant first: that of the
    wanted name, and without one config.yaml and its like."""
    named = [f"{NAMED_CONFIGS}/{config_name}{Path(name).suffix}" for name in CONFIG_NAMES]
    found = [folder / name for name in (*(named if config_name else ()), *names)]
    return [path for path in found if path.is_file()]


def read_config(
    folder: Path, names: Iterable[str] = CONFIG_NAMES, config_name: str = ""
) -> ModelConfig:
    """What a folder's configuration says; raises ConfigError naming file, field and fix."""
    found = config_files(folder, names, config_name)
    if not found:
        return ModelConfig()
    path = found[0]
    beside = [f for f in found[1:] if f.parent == path.parent and SUFFIX in (f.suffix, path.suffix)]
    if beside:
        raise ConfigError(f"stands beside {beside[0].name}; keep one of them", file=str(path))
    if path.suffix == SUFFIX:
        return decode_model_config(read_pbtxt(path), file=str(path), strict=False)
    document = read_document(path)
    return decode_model_config(document if document is not None else {}, file=str(path))


def decode_model_config(document: object, *, file: str, strict: bool = True) -> ModelConfig:
    """A model's configuration from plain data; raises ConfigError naming file, field and fix.

    Not strict is how Triton has it, in a file or through the load API: protobuf's JSON, with
    camelCase names and numbers as text, and what is left out as Triton takes it.
    """
    if not strict:
        document = in_field_names(document)
    check_refused(document, file=file)
    config = decode_struct(document, ModelConfig, file=file, strict=strict)
    if not strict and isinstance(document, dict):
        config = decode_struct(as_triton_reads(document), ModelConfig, file=file, strict=False)
    check_tensors(config, file=file)
    decode_struct(config.engine, EngineConfig, file=file, field="engine", strict=strict)
    check_batching(config.dynamic_batching or ModelDynamicBatching(), file=file)
    check_instances(config.instance_group, file=file)
    return config


def check_name(config: ModelConfig, name: str) -> None:
    """Raises ConfigError when a configuration is another model's."""
    if config.name and config.name != name:
        raise ConfigError(f"is '{config.name}', the model is named '{name}'", field="name")


def is_below(filename: str) -> bool:
    """Whether a file that a configuration names is within the folder that it is looked for in."""
    path = PurePosixPath(filename)
    return not path.is_absolute() and path.parts != () and ".." not in path.parts


def read_labels(folder: Path, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """The class names of each output that has a file of them; raises ConfigError."""
    labels = {}
    for output in config.output:
        if output.label_filename:
            path = folder / output.label_filename
            if not is_below(output.label_filename) or not path.is_file():
                raise ConfigError(
                    f"'{output.label_filename}' is not a file in the model's folder",
                    field="output.label_filename",
                )
            try:
                labels[output.name] = tuple(path.read_text(encoding="utf-8").splitlines())
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"cannot be read as text: {error}", file=str(path), field="label_filename"
                ) from error
    return labels
