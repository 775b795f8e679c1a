"""How a model's requests are scheduled, as its configuration says it: queues, batches, sequences,
ensembles, and what an instance needs before it may run. Spelled in Triton's field names, one frozen
struct a message. Source: Triton's `model_config.proto`.

This module refuses to know what is done with any of it (`batching/`, `serving/`).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inferd.errors import ConfigError

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]
TypeName = Literal[
    "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8",
    "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING",
    "TYPE_BF16",
]  # fmt: skip


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message of a configuration: an unknown field is an error."""


# -- queues and batches ------------------------------------------------------------------------


class ModelQueuePolicy(Message, frozen=True):
    """How long a request may wait, and how many may.

    `default_timeout_microseconds` 0 is no limit; `max_queue_size` 0 takes inferd's default bound
    (Triton: no bound). `allow_timeout_override` lets a request shorten, never lengthen, its wait.
    A request that has waited too long is refused, or with DELAY put behind all that has not.
    """

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_microseconds: Count = 0
    allow_timeout_override: bool = True
    max_queue_size: Count = 0

    @property
    def delays(self) -> bool:
        """Whether requests may be put off."""
        timed = self.default_timeout_microseconds or self.allow_timeout_override
        return self.timeout_action == "DELAY" and bool(timed)


class ModelDynamicBatching(Message, frozen=True):
    """How requests become batches.

    `max_queue_delay_microseconds` 0: a batch is whatever waits when an instance is free. Priorities
    go from 1, the most urgent, to `priority_levels`; 0 levels is no priorities. A request that asks
    for none, or for one that there is not, has `default_priority_level`. Policies of levels that
    `priority_queue_policy` does not name are the default one; each level has a queue of its own
    size.
    """

    preferred_batch_size: tuple[Positive, ...] = ()
    max_queue_delay_microseconds: Count = 0
    preserve_ordering: bool = False
    priority_levels: Count = 0
    default_priority_level: Count = 0
    default_queue_policy: ModelQueuePolicy = ModelQueuePolicy()
    priority_queue_policy: dict[int, ModelQueuePolicy] = {}


def check_batching(batching: ModelDynamicBatching, *, file: str = "") -> None:
    """Raises ConfigError for priorities that contradict each other, or the order of answers."""
    levels, default = batching.priority_levels, batching.default_priority_level
    named = "dynamic_batching.priority_queue_policy"
    within = f"expected a level from 1 to {levels}, the priority_levels, got"
    if levels and not 1 <= default <= levels:
        field = "dynamic_batching.default_priority_level"
        raise ConfigError(f"{within} {default}", file=file, field=field)
    for level in batching.priority_queue_policy if levels else ():
        if not 1 <= level <= levels:
            raise ConfigError(f"{within} {level}", file=file, field=named)
    if not batching.preserve_ordering:
        return
    why = "with preserve_ordering answers come in the order of requests, so"
    if levels > 1:
        field = "dynamic_batching.priority_levels"
        raise ConfigError(f"{why} none can go before others", file=file, field=field)
    policies = {"dynamic_batching.default_queue_policy": batching.default_queue_policy}
    if levels:
        policies |= {f"{named}.{n}": policy for n, policy in batching.priority_queue_policy.items()}
    for field, policy in policies.items():
        if policy.delays:
            field = f"{field}.timeout_action"
            raise ConfigError(f"{why} none can be put off (DELAY)", file=file, field=field)


class BatchInput(Message, frozen=True):
    """Inputs of the model, `target_name`, that are made of the shapes of a batch's requests."""

    target_name: tuple[Name, ...]
    data_type: TypeName
    source_input: tuple[Name, ...]
    kind: Literal[
        "BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN",
    ] = "BATCH_ELEMENT_COUNT"  # fmt: skip


class BatchOutput(Message, frozen=True):
    """Outputs of the model, `target_name`, that are cut by the shapes of `source_input`."""

    target_name: tuple[Name, ...]
    source_input: tuple[Name, ...]
    kind: Literal["BATCH_SCATTER_WITH_INPUT_SHAPE"] = "BATCH_SCATTER_WITH_INPUT_SHAPE"


# -- instances ---------------------------------------------------------------------------------


class RateLimiterResource(Message, frozen=True):
    """So many of a resource are held while an instance runs; one that is `global` is shared by all
    devices."""

    name: Name
    is_global: bool = msgspec.field(default=False, name="global")
    count: Count = 1


class ModelRateLimiter(Message, frozen=True):
    """What an instance needs to run, and how it stands beside others that need it too: one of
    priority 2 runs half as often as one of priority 1; 0 is 1. It needs the server's leave:
    `--rate-limit execution_count`."""

    resources: tuple[RateLimiterResource, ...] = ()
    priority: Count = 0


class SecondaryDevice(Message, frozen=True):
    """A device beside the one that an instance runs on."""

    kind: Literal["KIND_NVDLA"] = "KIND_NVDLA"
    device_id: int = 0


class ModelInstanceGroup(Message, frozen=True):
    """`count` copies of the model on one kind of device, or on each of `gpus`; KIND_GPU without
    any is each GPU that there is (`on_each_gpu`).

    Instances that are `passive` are loaded and not given requests.
    """

    name: str = ""
    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"] = "KIND_AUTO"
    count: Annotated[int, Meta(ge=1, le=1024)] = 1
    rate_limiter: ModelRateLimiter | None = None
    gpus: tuple[Count, ...] = ()
    secondary_devices: tuple[SecondaryDevice, ...] = ()
    profile: tuple[str, ...] = ()
    passive: bool = False
    host_policy: str = ""

    @property
    def instances(self) -> "tuple[ModelInstanceGroup, ...]":
        """Each of its instances, as a group of one."""
        places: list[tuple[int, ...]] = [(gpu,) for gpu in self.gpus] or [()]
        return tuple(
            msgspec.structs.replace(self, count=1, gpus=place)
            for place in places
            for _ in range(self.count)
        )

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is asked for."""
        return self.kind == "KIND_GPU" or bool(self.gpus)

    @property
    def device(self) -> str:
        """Where the first of its instances is to run: `cpu`, `cuda`, `cuda:N`, or nothing said."""
        if self.on_gpu:
            return f"cuda:{self.gpus[0]}" if self.gpus else "cuda"
        return "cpu" if self.kind == "KIND_CPU" else ""


def on_each_gpu(
    groups: tuple[ModelInstanceGroup, ...], gpus: int
) -> tuple[ModelInstanceGroup, ...]:
    """Groups on a machine with so many GPUs: those of KIND_GPU that name none are on each of them.
    Without any all stay as they are, for a backend to say what it lacks; KIND_AUTO is the CPU."""
    return tuple(
        msgspec.structs.replace(group, gpus=tuple(range(gpus)))
        if group.kind == "KIND_GPU" and not group.gpus
        else group
        for group in groups
    )


def check_instances(groups: tuple[ModelInstanceGroup, ...], *, file: str = "") -> None:
    """Raises ConfigError for instances that can be nowhere."""
    for index, group in enumerate(groups):
        field = f"instance_group[{index}]"
        if group.gpus and group.kind in ("KIND_CPU", "KIND_MODEL"):
            raise ConfigError(
                f"is for KIND_GPU, not {group.kind}", file=file, field=f"{field}.gpus"
            )
        if group.profile:
            raise ConfigError(
                "chooses among the profiles of a TensorRT engine, which inferd does not run; take "
                "it out",
                file=file,
                field=f"{field}.profile",
            )


# -- sequences ---------------------------------------------------------------------------------


class SequenceControl(Message, frozen=True):
    """What an input tells the model of a sequence: a pair of values for no and yes, or, of
    CONTROL_SEQUENCE_CORRID, the correlation id as `data_type`."""

    kind: Literal[
        "CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END",
        "CONTROL_SEQUENCE_CORRID",
    ] = "CONTROL_SEQUENCE_START"  # fmt: skip
    int32_false_true: tuple[int, ...] = ()
    fp32_false_true: tuple[float, ...] = ()
    bool_false_true: tuple[bool, ...] = ()
    data_type: TypeName | Literal["TYPE_INVALID"] = "TYPE_INVALID"


class SequenceControlInput(Message, frozen=True):
    """An input of the model that the server fills."""

    name: Name
    control: tuple[SequenceControl, ...]


class SequenceInitialState(Message, frozen=True):
    """What a state is at the start of a sequence: zeros, or the bytes of a file in the model's
    folder `initial_state`."""

    data_type: TypeName
    dims: tuple[int, ...] = ()
    name: str = ""
    zero_data: bool = False
    data_file: str = ""


class SequenceState(Message, frozen=True):
    """An output of the model that is its input in the sequence's next request."""

    input_name: Name
    output_name: Name
    data_type: TypeName
    dims: tuple[int, ...] = ()
    initial_state: tuple[SequenceInitialState, ...] = ()
    use_same_buffer_for_input_output: bool = False
    use_growable_memory: bool = False


class StrategyDirect(Message, frozen=True):
    """Each sequence has a slot of its own in an instance's batch for as long as it lives."""

    max_queue_delay_microseconds: Count = 0
    minimum_slot_utilization: Annotated[float, Meta(ge=0, le=1)] = 0.0


class StrategyOldest(Message, frozen=True):
    """Each instance has up to `max_candidate_sequences`, whose requests are batched, oldest first;
    0 is the most that Triton takes, one batch."""

    max_candidate_sequences: Count = 0
    preferred_batch_size: tuple[Positive, ...] = ()
    max_queue_delay_microseconds: Count = 0
    preserve_ordering: bool = False


class ModelSequenceBatching(Message, frozen=True):
    """Requests that follow on one another, all for the same instance; at most one strategy is set,
    none is `direct`. A sequence that is silent for `max_sequence_idle_microseconds` is over; 0 is a
    second. An iterative one is run again until its model has done with it."""

    direct: StrategyDirect | None = None
    oldest: StrategyOldest | None = None
    max_sequence_idle_microseconds: Count = 0
    control_input: tuple[SequenceControlInput, ...] = ()
    state: tuple[SequenceState, ...] = ()
    iterative_sequence: bool = False
    generative_sequence: bool = False


# -- ensembles ---------------------------------------------------------------------------------


class EnsembleStep(Message, frozen=True):
    """A model, and which tensors of the ensemble are its inputs and outputs; `input_map` and
    `output_map` go from the model's names to the ensemble's. `model_version` -1 is the newest."""

    model_name: Name
    model_version: int = -1
    input_map: dict[str, str] = {}
    output_map: dict[str, str] = {}
    model_namespace: str = ""


class ModelEnsembling(Message, frozen=True):
    """Models whose outputs are others' inputs; `max_inflight_requests` is for each step, 0 is any
    number."""

    step: tuple[EnsembleStep, ...] = ()
    max_inflight_requests: Count = 0
