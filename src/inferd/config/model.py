"""What a model's configuration can say, spelled in Triton's field names, one frozen struct a
message. Source: Triton's `model_config.proto`.

An unknown field is an error; so is one of Triton's that would have to change what is served and
cannot (`REFUSED`). This module refuses to read files (`load.py`) and to know what a model really is
(the backend completes what is not said).
"""

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from inferd.config.optimization import ModelOptimization
from inferd.config.scheduling import (
    BatchInput,
    BatchOutput,
    Count,
    Message,
    ModelDynamicBatching,
    ModelEnsembling,
    ModelInstanceGroup,
    ModelSequenceBatching,
    Name,
    TypeName,
)
from inferd.errors import ConfigError

Isolation = Literal["auto", "thread", "process"]

REFUSED = {
    "model_operations": "libraries of operators are not loaded; export the model without them",
    "model_repository_agents": "nobody looks at the files of a model before they are loaded; have "
    "them checked before they come into the repository, and take it out",
}
"""Fields that could only be left out of account by changing what is served, and why."""

OWN_NAMES = frozenset(
    {
        "parameters", "inputs", "engine", "metric_tags", "cc_model_filenames", "input_map",
        "output_map",
    }
)  # fmt: skip
"""Fields whose keys are the user's own names."""

LabelName = Annotated[
    str,
    Meta(pattern=r"^(?!(model|version|reason|le|step|step_model|__.*)$)[a-zA-Z_][a-zA-Z0-9_]*$"),
]
"""A name for a label of metrics, none of those that they have anyhow."""


class ModelTensorReshape(Message, frozen=True):
    """The shape that the model itself has for a tensor."""

    shape: tuple[int, ...] = ()


class ModelInput(Message, frozen=True):
    """An input; `dims` leave the batch dimension out when `max_batch_size` is 1 or more.

    With `reshape` the model has another shape than clients send; free dims are matched in order.
    With `allow_ragged_batch` requests of different shapes share a batch: their elements come to the
    model behind one another, in one dimension. Requests may leave an `optional` one out, where the
    model can do without; those that do share no batch with the rest. `format` is told to clients.
    What is TensorRT's alone has to be false.
    """

    name: Name
    data_type: TypeName
    dims: tuple[int, ...]
    format: Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = "FORMAT_NONE"
    reshape: ModelTensorReshape | None = None
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False
    optional: bool = False
    is_non_linear_format_io: bool = False


class ModelOutput(Message, frozen=True):
    """An output; `label_filename` (beside the config file) names classes, one a line. With
    `reshape` the model gives another shape than clients get."""

    name: Name
    data_type: TypeName
    dims: tuple[int, ...]
    reshape: ModelTensorReshape | None = None
    label_filename: str = ""
    is_shape_tensor: bool = False
    is_non_linear_format_io: bool = False


class Latest(Message, frozen=True):
    """Serve the `num_versions` highest versions."""

    num_versions: Annotated[int, Meta(ge=1)] = 1


class All(Message, frozen=True):
    """Serve every version."""


class Specific(Message, frozen=True):
    """Serve exactly these versions."""

    versions: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)]


class ModelVersionPolicy(Message, frozen=True):
    """Which of the versions in the repository are served; at most one field is set."""

    latest: Latest | None = None
    all: All | None = None
    specific: Specific | None = None


class WarmupInput(Message, frozen=True):
    """Data for one input of a warm-up request; `dims` leave the batch dimension out. The bytes of
    `input_data_file`, one row's, are in the model's folder `warmup`."""

    data_type: TypeName
    dims: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    zero_data: bool = False
    random_data: bool = False
    input_data_file: str = ""


class ModelWarmup(Message, frozen=True):
    """A batch of `batch_size` equal requests, 0 is 1, that every instance runs `count` times before
    the model is ready."""

    name: str = ""
    batch_size: Count = 1
    inputs: dict[str, WarmupInput] = field(default_factory=dict)
    count: Annotated[int, Meta(ge=1)] = 1


class ModelTransactionPolicy(Message, frozen=True):
    """Whether a request may have any number of responses, or none."""

    decoupled: bool = False


class ModelResponseCache(Message, frozen=True):
    """Whether answers are kept for requests that are equal."""

    enable: bool = False


class ModelRepositoryAgent(Message, frozen=True):
    """Something that looks at a model's files before they are loaded."""

    name: Name
    parameters: dict[str, str] = field(default_factory=dict)


class ModelRepositoryAgents(Message, frozen=True):
    """Agents, in the order in which they look."""

    agents: tuple[ModelRepositoryAgent, ...] = ()


class ModelOperations(Message, frozen=True):
    """Libraries of operators that the model needs."""

    op_library_filename: tuple[str, ...] = ()


class MetricIdentifier(Message, frozen=True):
    """Which metric."""

    family: Name


class HistogramOptions(Message, frozen=True):
    """Upper bounds of a histogram's buckets."""

    buckets: tuple[float, ...] = ()


class MetricControl(Message, frozen=True):
    """How one metric of the model is kept."""

    metric_identifier: MetricIdentifier
    histogram_options: HistogramOptions = HistogramOptions()


class ModelMetrics(Message, frozen=True):
    """How metrics of the model are kept."""

    metric_control: tuple[MetricControl, ...] = ()


class ModelConfig(Message, frozen=True):
    """Everything a model's configuration can say.

    `max_batch_size` None leaves the choice to the backend: a default bound where the model's first
    dimension is free on every input and output, no batching where it is not. `dynamic_batching`
    None means the defaults of ModelDynamicBatching. `engine` is what is said of a language model's
    EngineConfig (`engine.py`), which may also stand in `parameters`, as Triton has it.

    The last five are inferd's own, and about where a model runs that has, or may have, a worker
    process. `isolation` auto is a process for what holds Python's lock or runs code of its own,
    and the server's process for the rest. A run may take `timeout_secs` before its worker is taken
    for hung and ended; None is the default of the model's kind, 0 no limit. `memory_limit_mb` is
    for one worker, 0 is no limit. `python` is an interpreter, or the folder of an environment, that
    runs the model, and `requirements` are packages, as pip is told them, for an environment of its
    own. A Python model may say them as keywords of its class instead; what is said here wins.
    """

    name: str = ""
    platform: str = ""
    backend: str = ""
    default_model_filename: str = ""
    cc_model_filenames: dict[str, str] = field(default_factory=dict)
    runtime: str = ""
    max_batch_size: Count | None = None
    input: tuple[ModelInput, ...] = ()
    output: tuple[ModelOutput, ...] = ()
    batch_input: tuple[BatchInput, ...] = ()
    batch_output: tuple[BatchOutput, ...] = ()
    instance_group: tuple[ModelInstanceGroup, ...] = ()
    dynamic_batching: ModelDynamicBatching | None = None
    sequence_batching: ModelSequenceBatching | None = None
    ensemble_scheduling: ModelEnsembling | None = None
    version_policy: ModelVersionPolicy = ModelVersionPolicy()
    model_warmup: tuple[ModelWarmup, ...] = ()
    model_transaction_policy: ModelTransactionPolicy = ModelTransactionPolicy()
    response_cache: ModelResponseCache = ModelResponseCache()
    model_repository_agents: ModelRepositoryAgents = ModelRepositoryAgents()
    model_operations: ModelOperations = ModelOperations()
    model_metrics: ModelMetrics = ModelMetrics()
    metric_tags: dict[LabelName, str] = field(default_factory=dict)
    optimization: ModelOptimization | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    required: bool = True
    isolation: Isolation = "auto"
    timeout_secs: Annotated[float, Meta(ge=0)] | None = None
    memory_limit_mb: Count = 0
    python: str = ""
    requirements: tuple[Name, ...] = ()

    @property
    def instances(self) -> tuple[ModelInstanceGroup, ...]:
        """Each copy of the model, as an instance group of one; at least one."""
        found = tuple(one for group in self.instance_group for one in group.instances)
        return found or (ModelInstanceGroup(),)

    @property
    def instance_count(self) -> int:
        """How many copies of the model there are, at least 1."""
        return len(self.instances)

    @property
    def active_count(self) -> int:
        """How many of them may run side by side, at least 1."""
        return sum(not one.passive for one in self.instances) or 1

    def parameter(self, name: str, default: str = "") -> str:
        """A parameter as text, written plainly or in Triton's form `{string_value: ...}`."""
        value = self.parameters.get(name, default)
        if isinstance(value, dict):
            value = value.get("string_value", default)
        return str(value)


def check_refused(document: object, *, file: str) -> None:
    """Raises ConfigError for a field that could only be left out of account, and says something."""
    if isinstance(document, dict):
        for name in REFUSED.keys() & document.keys():
            if document[name]:
                raise ConfigError(REFUSED[name], file=file, field=name)


def in_field_names(document: object) -> object:
    """A document in protobuf's JSON, whose keys may be in camelCase, in Triton's own names; null is
    nothing said, and so is a count of 0."""
    if isinstance(document, list):
        return [in_field_names(entry) for entry in document]
    if not isinstance(document, dict):
        return document
    return {
        _field_name(str(name)): (
            {key: in_field_names(entry) for key, entry in value.items()}
            if _field_name(str(name)) in OWN_NAMES and isinstance(value, dict)
            else in_field_names(value)
        )
        for name, value in document.items()
        if value is not None and (name, value) != ("count", 0)
    }


def _field_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda capital: f"_{capital[1].lower()}", name)
