"""A model's configuration in Triton's JSON, as models read it, and as `auto_complete_config`
changes it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from inferd.config.model import ModelConfig as Config
from inferd.config.model import ModelInput, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import ConfigError

_OWN: Final = (
    "engine", "required", "isolation", "timeout_secs", "memory_limit_mb", "python", "requirements",
)  # fmt: skip
"""Fields that Triton does not have."""

_OPTIMIZATION: Final = {
    "priority": "PRIORITY_DEFAULT",
    "input_pinned_memory": {"enable": True},
    "output_pinned_memory": {"enable": True},
    "gather_kernel_buffer_threshold": 0,
    "eager_batching": False,
}


def triton_config(config: Config, name: str, filename: str) -> dict[str, Any]:
    """The whole configuration; messages that nobody has set are left out, as Triton does."""
    unset = Config()
    said: dict[str, Any] = {}
    for field in config.__struct_fields__:
        value = getattr(config, field)
        is_message = isinstance(value, msgspec.Struct) and field != "version_policy"
        if field in _OWN or value is None or (is_message and value == getattr(unset, field)):
            continue
        said[field] = _without_none(msgspec.to_builtins(value, str_keys=True))
    said["name"] = name
    said["backend"] = config.backend or "python"
    said["default_model_filename"] = config.default_model_filename or filename
    said["max_batch_size"] = config.max_batch_size or 0
    said["version_policy"] = said["version_policy"] or {"latest": {"num_versions": 1}}
    said["optimization"] = {**_OPTIMIZATION, **said.get("optimization", {})}
    said["parameters"] = {key: {"string_value": config.parameter(key)} for key in config.parameters}
    implicit = msgspec.to_builtins(ModelInstanceGroup(kind="KIND_CPU"))
    said["instance_group"] = said["instance_group"] or [_without_none(implicit)]
    for index, group in enumerate(said["instance_group"]):
        several = len(said["instance_group"]) > 1
        group["name"] = group.get("name") or (f"{name}_{index}" if several else name)
        if group["kind"] == "KIND_AUTO":
            group["kind"] = "KIND_GPU" if group.get("gpus") else "KIND_CPU"
    return said


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_without_none(entry) for entry in value]
    return value


def completed(config: Config, said: Mapping[str, Any]) -> Config:
    """A configuration with what a model has said in Triton's JSON; raises ConfigError."""
    policy = said.get("model_transaction_policy") or {}
    changes = {
        "max_batch_size": said.get("max_batch_size", 0),
        "model_transaction_policy": {"decoupled": bool(policy.get("decoupled"))},
    }
    try:
        told = msgspec.convert(changes, Config)
        inputs = tuple(_tensors(said.get("input", ()), ModelInput))
        outputs = tuple(_tensors(said.get("output", ()), ModelOutput))
    except msgspec.ValidationError as error:
        raise ConfigError(f"auto_complete_config has given what is none: {error}") from error
    return msgspec.structs.replace(
        config, max_batch_size=told.max_batch_size, input=inputs, output=outputs,
        model_transaction_policy=told.model_transaction_policy,
    )  # fmt: skip


def _tensors(entries: Iterable[Any], kind: Any) -> Iterable[Any]:
    for entry in entries:
        plain = {key: value for key, value in entry.items() if key in kind.__struct_fields__}
        plain["dims"] = [int(size) for size in plain.get("dims", ())]
        yield msgspec.convert(plain, kind)


class ModelConfig:
    """What `auto_complete_config` is given, and gives back."""

    def __init__(self, model_config: str | Mapping[str, Any]) -> None:
        is_text = isinstance(model_config, str)
        self._config: dict[str, Any] = json.loads(model_config) if is_text else dict(model_config)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it is now."""
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """The largest batch; raises ValueError where the configuration asks for a larger one."""
        said = self._config.get("max_batch_size", 0)
        if said > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {said}, but in auto-complete-config "
                f"function for model '{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Batch requests; raises ValueError for a model of sequences, or an ensemble."""
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{scheduler}', but "
                    f"auto-complete-config function for model '{self._name}' tries to set "
                    "scheduling_choice as 'dynamic_batching'"
                )
        self._config.setdefault("dynamic_batching", {})

    def add_input(self, input: Mapping[str, Any]) -> None:
        """An input: name, data_type, dims and perhaps optional; raises ValueError where it is none,
        or the configuration has another one of that name."""
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: Mapping[str, Any]) -> None:
        """As `add_input`; an output is not optional."""
        self._add("output", output, ("name", "data_type", "dims"))

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Whether the model is decoupled; raises ValueError where the configuration says
        otherwise."""
        for name in transaction_policy_dict:
            if name != "decoupled":
                raise ValueError(
                    "model transaction property in auto-complete-config function for model "
                    f"'{self._name}' contains property other than 'decoupled'."
                )
        policy = self._config.setdefault("model_transaction_policy", {})
        if "decoupled" in transaction_policy_dict:
            wanted = transaction_policy_dict["decoupled"]
            if policy.get("decoupled", wanted) != wanted:
                raise ValueError(
                    "trying to change decoupled property in auto-complete-config for model "
                    f"'{self._name}', which is already set to '{policy['decoupled']}'."
                )
            policy["decoupled"] = wanted

    @property
    def _name(self) -> str:
        return str(self._config.get("name", ""))

    def _add(
        self, field: Literal["input", "output"], tensor: Mapping[str, Any], known: tuple[str, ...]
    ) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        for name in known[:3]:
            if name not in tensor:
                which = f" '{tensor['name']}'" if "name" in tensor else ""
                raise ValueError(f"{field}{which} {where} is missing '{name}' property.")
        if any(name not in known for name in tensor):
            names = ", ".join(f"'{name}'" for name in known[:-1])
            raise ValueError(
                f"{field} '{tensor['name']}' {where} contains property other than {names} and "
                f"'{known[-1]}'."
            )
        entries = self._config.setdefault(field, [])
        there = next((entry for entry in entries if entry["name"] == tensor["name"]), None)
        if there is None:
            entries.append(dict(tensor))
            return
        for name in known[1:]:
            said, given = there.get(name), tensor.get(name)
            if given is None or said in (None, "TYPE_INVALID", []):
                continue
            if (list(said) if name == "dims" else said) != (
                list(given) if name == "dims" else given
            ):
                raise ValueError(
                    f"model '{self._name}', tensor '{tensor['name']}': the model expects {name} "
                    f"{given} but the model configuration specifies {name} {said}"
                )
        there.update(tensor)


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """The input of that name; None where there is none."""
    return _named(model_config.get("input", ()), name)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """The output of that name; None where there is none."""
    return _named(model_config.get("output", ()), name)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether a request may have any number of responses."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def _named(entries: Iterable[Any], name: str) -> Any:
    return next((entry for entry in entries if entry["name"] == name), None)
