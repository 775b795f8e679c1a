"""One predictive request and its answer, the same on every protocol."""

from collections.abc import Mapping
from typing import Any

import msgspec

from inferd.types.tensor import Tensor

Parameters = Mapping[str, Any]
"""Parameter values are bool, int, float or str."""


class SharedPlace(msgspec.Struct, frozen=True):
    """Where in a registered region of shared memory a tensor lies, in bytes from its start."""

    region: str
    offset: int
    byte_size: int


class RequestedOutput(msgspec.Struct, eq=False):
    """An output that the caller asks for by name; `classification` > 0 asks for its top K, `shared`
    says where to write it."""

    name: str
    classification: int = 0
    shared: SharedPlace | None = None


class SequenceStep(msgspec.Struct, frozen=True):
    """Where in which sequence a request stands; `id` is the client's correlation id."""

    id: int | str
    start: bool = False
    end: bool = False


class InferenceRequest(msgspec.Struct, eq=False):
    """A request for one model; `outputs` None asks for all.

    `parameters` are those that the model may see: what a protocol or the queue consumes
    (`binary_data_output`, `timeout`, ...) has been taken out. `timeout_us` bounds the wait in the
    queue, `deadline_ns` (on `time.perf_counter_ns`) the whole request; 0 is none. `priority` 1 is
    the most urgent, 0 is the model's own default. Requests of one `session` go to the same instance
    of a model that keeps state. `method` "explain" is for models that can. `depth` is how many
    models have asked one another for it; a client's own request has 0.
    """

    model_name: str
    model_version: str
    inputs: list[Tensor]
    outputs: list[RequestedOutput] | None = None
    id: str = ""
    parameters: Parameters | None = None
    timeout_us: int = 0
    deadline_ns: int = 0
    priority: int = 0
    sequence: SequenceStep | None = None
    session: str = ""
    method: str = "predict"
    depth: int = 0


class InferenceResponse(msgspec.Struct, eq=False):
    """The answer: the outputs that were asked for, in the order asked for.

    One of a stream may have any of them, or none. `final` says of it that nothing comes behind it;
    a stream may also end without saying so.
    """

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str = ""
    parameters: Parameters | None = None
    final: bool = False
