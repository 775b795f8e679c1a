"""Reads the configuration and the labels that stand beside a model. It refuses to know what they
are of.
"""

from collections.abc import Iterable
from pathlib import Path

from inferd.config.engine import EngineConfig
from inferd.config.model import ModelConfig, in_field_names, without_defaults
from inferd.config.strict import decode_struct, read_document
from inferd.errors import ConfigError

CONFIG_NAMES = ("config.yaml", "config.yml", "config.json")
FOLDER_CONFIG_NAMES = CONFIG_NAMES[:2]
"""Beside the weights of a model that is a folder, config.json is the model's own."""


def config_in(folder: Path, names: Iterable[str] = CONFIG_NAMES) -> Path | None:
    """The configuration's file, if there is one."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_config(folder: Path, names: Iterable[str] = CONFIG_NAMES) -> ModelConfig:
    """What a folder's configuration says; raises ConfigError naming file, field and fix."""
    path = config_in(folder, names)
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


def check_name(config: ModelConfig, name: str) -> None:
    """Raises ConfigError when a configuration is another model's."""
    if config.name and config.name != name:
        raise ConfigError(f"is '{config.name}', the folder is named '{name}'", field="name")


def read_labels(folder: Path, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """The class names of each output that has a file of them; raises ConfigError."""
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
