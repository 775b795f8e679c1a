"""A served model's configuration as Triton prints it: the ModelConfig message as JSON, snake_case,
every primitive field, enums by name. Pure; shared by everything that carries the protocol.

Source: Triton's model configuration extension and `model_config.proto`.
"""

from typing import Any

import msgspec

from inferd.batching.queue import DEFAULT_MAX_QUEUE_SIZE
from inferd.config.model import (
    ModelInput,
    ModelOutput,
    ModelVersionPolicy,
    ModelWarmup,
    WarmupInput,
)
from inferd.config.optimization import ModelOptimization
from inferd.config.scheduling import (
    BatchInput,
    BatchOutput,
    Message,
    ModelDynamicBatching,
    ModelEnsembling,
    ModelInstanceGroup,
    ModelQueuePolicy,
    ModelRateLimiter,
    ModelSequenceBatching,
    StrategyDirect,
)
from inferd.config.sequence_tensors import DEFAULT_MAX_SEQUENCE_IDLE_US
from inferd.serving.served_model import ServedModel
from inferd.types.tensor import TensorSpec


def model_config(served: ServedModel) -> dict[str, Any]:
    """The configuration in force, completed: what the model says and what inferd chose."""
    config, description = served.config, served.description
    batched = description.max_batch_size > 0
    inputs = {entry.name: entry for entry in config.input}
    outputs = {entry.name: entry for entry in config.output}
    ensemble = config.ensemble_scheduling
    result: dict[str, Any] = {
        "name": served.name,
        "platform": description.platform,
        "backend": description.backend,
        "runtime": config.runtime,
        "version_policy": _version_policy(config.version_policy),
        "max_batch_size": description.max_batch_size,
        "input": [_input(spec, inputs.get(spec.name), batched) for spec in served.inputs],
        "output": [_output(spec, outputs.get(spec.name), batched) for spec in served.outputs],
        "batch_input": [_of_batch(entry) for entry in config.batch_input],
        "batch_output": [_of_batch(entry) for entry in config.batch_output],
        "instance_group": [] if ensemble is not None else _instance_groups(served),
        "default_model_filename": config.default_model_filename
        or ("" if ensemble is not None else served.filename),
        "cc_model_filenames": dict(config.cc_model_filenames),
        "metric_tags": dict(config.metric_tags),
        "parameters": {
            name: {"string_value": config.parameter(name)} for name in config.parameters
        },
        "model_warmup": [_warmup(warmup) for warmup in config.model_warmup],
    }
    if served.signature.streams:
        result["model_transaction_policy"] = {"decoupled": True}
    if config.sequence_batching is not None:
        result["sequence_batching"] = _sequence_batching(config.sequence_batching)
    elif ensemble is not None:
        result["ensemble_scheduling"] = _ensemble_scheduling(ensemble)
    elif batched:
        result["dynamic_batching"] = _dynamic_batching(
            config.dynamic_batching or ModelDynamicBatching()
        )
    result["optimization"] = {**_PINNED, **_set_fields(config.optimization or ModelOptimization())}
    if config.model_metrics.metric_control:
        result["model_metrics"] = _set_fields(config.model_metrics)
    if config.response_cache.enable:
        result["response_cache"] = {"enable": True}
    return result


_PINNED = {name: {"enable": True} for name in ("input_pinned_memory", "output_pinned_memory")}


def _input(spec: TensorSpec, said: ModelInput | None, batched: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": spec.datatype.config_name,
        "format": said.format if said else "FORMAT_NONE",
        "dims": _dims(spec, batched),
        **_reshape(said),
        "is_shape_tensor": False,
        "allow_ragged_batch": said is not None and said.allow_ragged_batch,
        "optional": spec.optional,
        "is_non_linear_format_io": False,
    }


def _output(spec: TensorSpec, said: ModelOutput | None, batched: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": spec.datatype.config_name,
        "dims": _dims(spec, batched),
        **_reshape(said),
        "label_filename": said.label_filename if said else "",
        "is_shape_tensor": False,
        "is_non_linear_format_io": False,
    }


def _reshape(said: ModelInput | ModelOutput | None) -> dict[str, Any]:
    if said is None or said.reshape is None:
        return {}
    return {"reshape": {"shape": list(said.reshape.shape)}}


def _of_batch(entry: BatchInput | BatchOutput) -> dict[str, Any]:
    fields = msgspec.structs.asdict(entry)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


def _dims(spec: TensorSpec, batched: bool) -> list[int]:
    return list(spec.shape[1:] if batched else spec.shape)


def _set_fields(message: Message) -> dict[str, Any]:
    """A message without the messages within it that nobody set."""
    values: dict[str, Any] = msgspec.to_builtins(message)
    return {name: value for name, value in values.items() if value is not None}


def _version_policy(policy: ModelVersionPolicy) -> dict[str, Any]:
    if policy.specific is not None:
        return {"specific": {"versions": list(policy.specific.versions)}}
    if policy.all is not None:
        return {"all": {}}
    return {"latest": {"num_versions": policy.latest.num_versions if policy.latest else 1}}


def _dynamic_batching(batching: ModelDynamicBatching) -> dict[str, Any]:
    return {
        "preferred_batch_size": list(batching.preferred_batch_size),
        "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
        "preserve_ordering": batching.preserve_ordering,
        "priority_levels": batching.priority_levels,
        "default_priority_level": batching.default_priority_level,
        "default_queue_policy": _queue_policy(batching.default_queue_policy),
        "priority_queue_policy": {
            str(level): _queue_policy(policy)
            for level, policy in batching.priority_queue_policy.items()
        },
    }


def _queue_policy(policy: ModelQueuePolicy) -> dict[str, Any]:
    return {
        "timeout_action": policy.timeout_action,
        "default_timeout_microseconds": policy.default_timeout_microseconds,
        "allow_timeout_override": policy.allow_timeout_override,
        "max_queue_size": policy.max_queue_size or DEFAULT_MAX_QUEUE_SIZE,
    }


def _sequence_batching(batching: ModelSequenceBatching) -> dict[str, Any]:
    """As it was said, with the default strategy, the default time, and the name that iterative
    sequences have now."""
    printed: dict[str, Any] = msgspec.to_builtins(batching)
    for entry in printed["state"]:
        for initial in entry["initial_state"]:
            del initial["zero_data" if initial["data_file"] else "data_file"]
    printed["iterative_sequence"] |= printed.pop("generative_sequence")
    oldest, direct = printed.pop("oldest"), printed.pop("direct")
    strategy = {"oldest": oldest} if oldest else {"direct": direct or _DIRECT}
    idle_us = batching.max_sequence_idle_microseconds or DEFAULT_MAX_SEQUENCE_IDLE_US
    return {**strategy, **printed, "max_sequence_idle_microseconds": idle_us}


_DIRECT = msgspec.to_builtins(StrategyDirect())


def _ensemble_scheduling(ensemble: ModelEnsembling) -> dict[str, Any]:
    printed: dict[str, Any] = msgspec.to_builtins(ensemble)
    return printed


def _instance_groups(served: ServedModel) -> list[dict[str, Any]]:
    said = served.config.instance_group
    groups = said or (ModelInstanceGroup(),)
    return [
        {
            "name": group.name or (f"{served.name}_{index}" if said else served.name),
            "kind": _kind(group),
            "count": group.count,
            **({} if group.rate_limiter is None else {"rate_limiter": _limits(group.rate_limiter)}),
            "gpus": list(group.gpus),
            "secondary_devices": [
                {"kind": device.kind, "device_id": device.device_id}
                for device in group.secondary_devices
            ],
            "profile": [],
            "passive": group.passive,
            "host_policy": group.host_policy,
        }
        for index, group in enumerate(groups)
    ]


def _kind(group: ModelInstanceGroup) -> str:
    if group.kind != "KIND_AUTO":
        return group.kind
    return "KIND_GPU" if group.on_gpu else "KIND_CPU"


def _limits(limiter: ModelRateLimiter) -> dict[str, Any]:
    return {
        "resources": [
            {"name": resource.name, "global": resource.is_global, "count": resource.count}
            for resource in limiter.resources
        ],
        "priority": limiter.priority,
    }


def _warmup(warmup: ModelWarmup) -> dict[str, Any]:
    return {
        "name": warmup.name,
        "batch_size": warmup.batch_size,
        "inputs": {
            name: {
                "data_type": data.data_type,
                "dims": list(data.dims),
                **_data(data),
            }
            for name, data in warmup.inputs.items()
        },
        "count": warmup.count,
    }


def _data(data: WarmupInput) -> dict[str, Any]:
    if data.input_data_file:
        return {"input_data_file": data.input_data_file}
    return {"random_data": True} if data.random_data else {"zero_data": True}
