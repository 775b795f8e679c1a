"""What a folder of transformers or sentence-transformers says of itself, read by ourselves: which
task its model does, which modules come behind it, where its weights are.

It loads nothing. It refuses weights that are a pickle without trust, and modules that it does not
know; code that comes with a folder is never run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from inferd.config.model import ModelConfig
from inferd.config.strict import decode_struct
from inferd.errors import BackendError, Unsupported

Task = Literal[
    "embeddings", "classification", "token-classification", "question-answering", "fill-mask"
]

_HEADS: dict[str, Task] = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "Model": "embeddings",
}
"""How the name of an architecture ends, and what such a model does."""

_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How sentence-transformers before 6 wrote the mode of a Pooling."""


class EncoderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model's configuration may say in `parameters`.

    `truncation` is what happens to a text of more than `max_length` tokens. `pooling` and
    `normalize` are for embeddings, `aggregation` for token-classification, `top_k` for fill-mask.
    """

    task: Task | Literal["auto"] = "auto"
    max_length: int | None = None
    truncation: Literal["truncate", "refuse"] = "truncate"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    pooling: Literal["auto", "mean", "cls", "max", "lasttoken"] = "auto"
    normalize: bool | None = None
    aggregation: Literal["simple", "none"] = "simple"
    top_k: int = 5


@dataclass(frozen=True, slots=True)
class Module:
    """A module behind the transformer: its kind (Pooling, Dense, Normalize), what its config.json
    says, and the folder that it was in."""

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """A folder, read. `weights` is where config.json, the weights and the tokenizer are.

    `modules` are those of sentence-transformers behind the transformer, empty in a folder of
    transformers; `prompt` stands before every text; `max_length` is what sentence-transformers was
    told, as are `activation`, which makes the score of a cross-encoder's logit, and `lowercases`,
    which is about texts.
    """

    weights: Path
    task: Task
    architecture: str
    modules: tuple[Module, ...] = ()
    prompt: str = ""
    max_length: int | None = None
    activation: str = ""
    lowercases: bool = False


def read_settings(config: ModelConfig) -> EncoderSettings:
    """The parameters of a model's configuration; raises ConfigError with the nearest name."""
    texts = {name: config.parameter(name) for name in config.parameters}
    return decode_struct(texts, EncoderSettings, file="", field="parameters", strict=False)


def read_folder(path: Path, settings: EncoderSettings, trust: bool) -> EncoderFolder:
    """Read a folder, or the folder that a file of it is in; raises BackendError or Unsupported."""
    folder = path if path.is_dir() else path.parent
    modules = _modules(folder)
    weights = folder
    if modules:
        first, *modules = modules
        if first.kind != "Transformer":
            raise Unsupported(f"modules.json begins with a {first.kind}, not with a Transformer")
        weights = first.folder
    architecture = _architecture(weights)
    task = _task(architecture, bool(modules), settings)
    _check_weights(weights, trust)
    said = read_json(folder / "config_sentence_transformers.json")
    sentence = _sentence_config(folder, weights)
    return EncoderFolder(
        weights, task, architecture, tuple(modules), _prompt(said), _max_length(sentence),
        str(said.get("activation_fn") or ""), bool(sentence.get("do_lower_case")),
    )  # fmt: skip


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. Raises BackendError."""
    if not file.is_file():
        return {}
    found = _parsed(file)
    if not isinstance(found, dict):
        raise BackendError(f"{file.name} must hold a JSON object")
    return found


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"{file.name} cannot be read as JSON: {error}") from error


def _modules(folder: Path) -> list[Module]:
    """What modules.json lists, in its order."""
    file = folder / "modules.json"
    if not file.is_file():
        return []
    found = []
    entries = _parsed(file)
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
            raise BackendError("modules.json must list modules, each with a type and a path")
        kind = entry["type"].rpartition(".")[2]
        where = _inside(folder, str(entry.get("path", "")))
        if kind in ("Transformer", "Pooling", "Dense", "Normalize"):
            config = {} if kind == "Transformer" else read_json(where / "config.json")
            found.append(Module(kind, config, where))
        elif kind != "Dropout":  # which does nothing but in training
            raise Unsupported(
                f"modules.json has a '{kind}', which inferd does not know; it knows Transformer, "
                "Pooling, Dense and Normalize. Serve it as a Python model"
            )
    return found


def _inside(folder: Path, path: str) -> Path:
    where = (folder / path).resolve()
    if not where.is_relative_to(folder.resolve()):
        raise BackendError(f"modules.json names '{path}', which is outside its folder")
    return where


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The modes of a Pooling, as any version of sentence-transformers writes them."""
    said = config.get("pooling_mode")
    if said is not None:
        return (said,) if isinstance(said, str) else tuple(said)
    return tuple(mode for key, mode in _LEGACY_MODES.items() if config.get(key)) or ("mean",)


def _architecture(weights: Path) -> str:
    if not (weights / "config.json").is_file():
        raise BackendError(
            f"{weights.name} has no config.json; save the model with save_pretrained(folder)"
        )
    names = read_json(weights / "config.json").get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise BackendError(
            "config.json does not name an architecture; save the model with save_pretrained"
        )
    return names[0]


def _task(architecture: str, sentences: bool, settings: EncoderSettings) -> Task:
    if settings.task != "auto":
        return settings.task
    if sentences:
        return "embeddings"
    for end, task in _HEADS.items():
        if architecture.endswith(end):
            return task
    raise Unsupported(
        f"'{architecture}' is none of the encoders that inferd serves (*{', *'.join(_HEADS)}); "
        "if it gives embeddings, say parameters: {task: embeddings}"
    )


def _check_weights(weights: Path, trust: bool) -> None:
    if any(weights.glob("*.safetensors")):
        return
    pickles = sorted(file.name for file in weights.glob("*.bin"))
    if not pickles:
        raise BackendError(
            f"{weights.name} has no weights (model.safetensors); save the model with "
            "save_pretrained(folder)"
        )
    if not trust:
        raise BackendError(
            f"{pickles[0]} is a pickle, which may run code when it is read. Save the model again "
            "with save_pretrained(folder, safe_serialization=True), or serve it with --trust if "
            "you know where it comes from"
        )


def _prompt(said: Mapping[str, Any]) -> str:
    """What sentence-transformers puts before a text where the caller says nothing."""
    name = said.get("default_prompt_name")
    return str((said.get("prompts") or {}).get(name, "")) if name else ""


def _sentence_config(folder: Path, weights: Path) -> dict[str, Any]:
    """What sentence-transformers says of the transformer, in either of the places it writes to."""
    for place in (weights, folder):
        for name in ("sentence_bert_config.json", "sentence_roberta_config.json"):
            said = read_json(place / name)
            if said:
                return said
    return {}


def _max_length(said: Mapping[str, Any]) -> int | None:
    length = said.get("max_seq_length")
    return length if isinstance(length, int) and length > 0 else None
