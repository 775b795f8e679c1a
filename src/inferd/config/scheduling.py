"""How a model's requests are scheduled, as its configuration says it: queues, batches, sequences,
ensembles, and what an instance needs before it may run. Spelled in Triton's field names, one frozen
struct a message. Source: Triton's `model_config.proto`.

This module refuses to know what is done with any of it (`batching/`, `serving/`).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

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


class ModelDynamicBatching(Message, frozen=True):
    """How requests become batches.

    `max_queue_delay_microseconds` 0: a batch is whatever waits when an instance is free. Priorities
    go from 1, the most urgent, to `priority_levels`; 0 levels is no priorities. Policies of levels
    that `priority_queue_policy` does not name are the default one.
    """

    preferred_batch_size: tuple[Positive, ...] = ()
    max_queue_delay_microseconds: Count = 0
    preserve_ordering: bool = False
    priority_levels: Count = 0
    default_priority_level: Count = 0
    default_queue_policy: ModelQueuePolicy = ModelQueuePolicy()
    priority_queue_policy: dict[int, ModelQueuePolicy] = {}


class BatchInput(Message, frozen=True):
    """Inputs of the model, `target_name`, that are made of the shapes of a batch's requests."""

    kind: Literal[
        "BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN",
    ]  # fmt: skip
    target_name: tuple[Name, ...]
    data_type: TypeName
    source_input: tuple[Name, ...]


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
    count: Positive = 1


class ModelRateLimiter(Message, frozen=True):
    """What an instance needs to run, and how it stands beside others that need it too: one of
    priority 2 runs half as often as one of priority 1; 0 is 1."""

    resources: tuple[RateLimiterResource, ...] = ()
    priority: Count = 0


class SecondaryDevice(Message, frozen=True):
    """A device beside the one that an instance runs on."""

    kind: Literal["KIND_NVDLA"] = "KIND_NVDLA"
    device_id: int = 0


class ModelInstanceGroup(Message, frozen=True):
    """`count` copies of the model on one kind of device, or on each of `gpus`.

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
    dims: tuple[int, ...]
    name: str = ""
    zero_data: bool = False
    data_file: str = ""


class SequenceState(Message, frozen=True):
    """An output of the model that is its input in the sequence's next request."""

    input_name: Name
    output_name: Name
    data_type: TypeName
    dims: tuple[int, ...]
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
