"""What a worker is told (commands) and what it says (events): plain typed values."""

from typing import Literal

import msgspec

from inferd.batching.layout import BatchLayout
from inferd.config.model import ModelConfig
from inferd.errors import InferdError
from inferd.processes.log_lines import Logged
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Signature
from inferd.types.tensor import TensorSpec
from inferd.types.visit import VisitHead


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One message; on the wire a list that starts with its name."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A tensor: `data` is its bytes, or the offset at which its `size` bytes lie in the window of
    shared memory that goes with the message. BYTES are packed as in the V2 protocol."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes | int
    size: int


class Particulars(msgspec.Struct, frozen=True, array_like=True):
    """What a request says beside its inputs, for models that look at requests; most say nothing.

    `outputs` None asks for all. `sequence` is its correlation id, `flags` Triton's of a sequence's
    start (1) and end (2). `depth` is how many models have asked one another for it.
    """

    id: str = ""
    outputs: tuple[str, ...] | None = None
    parameters: dict[str, bool | int | float | str] | None = None
    sequence: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    depth: int = 0


# -- commands ----------------------------------------------------------------------------------


class Start(_Message, frozen=True):
    """The first command: what to load. `backend` "python" is a class in a file, any other one of
    the registry's; `threads` are the cores it may use, `log_level` that from which on to log,
    `folder` is the model's own, of all versions, where it has one, `number` which of the model's
    instances it is, from 0 on."""

    model: str
    backend: str
    path: str
    config: ModelConfig
    threads: int
    trust: bool
    device: str
    log_level: int
    folder: str = ""
    version: int = 1
    number: int = 0


class Run(_Message, frozen=True):
    """Run a batch: inputs in the model's order, merged over requests of so many `rows` each; None
    is an optional input that was left out. Large ones lie in the window of the slot.

    `stacked` requests are of a model without batching: they came together, along a dimension that
    was put before the others, and are run one after the other. `particulars` are by the request's
    place. `shapes` are by the place of an input whose requests have different ones: its elements
    lie behind one another.
    """

    job: int
    slot: int
    method: str
    inputs: list[Packed | None]
    rows: list[int]
    sessions: list[str]
    stacked: bool = False
    particulars: dict[int, Particulars] = {}
    shapes: dict[int, list[tuple[int, ...]]] = {}


class Cancel(_Message, frozen=True):
    """Nobody waits any more for a job, or for the request at one place of it; harmless after its
    end."""

    job: int
    request: int | None = None


class Took(_Message, frozen=True):
    """So many parts of a stream have gone on: as many more may come."""

    job: int
    parts: int


class Answer(_Message, frozen=True):
    """What came of an Ask: outputs by name, or an error; `last` ends a stream, without outputs. An
    error that is not the last is one part of it."""

    ask: int
    outputs: dict[str, Packed]
    error: InferdError | None = None
    signature: Signature | None = None
    last: bool = True
    final: bool = False
    """Of a stream: it is known to be the last with outputs."""
    parameters: dict[str, bool | int | float | str] | None = None
    value: float = 0.0
    """The value of a metric; 1 for yes."""


class Visit(_Message, frozen=True):
    """Somebody asks the model's own HTTP routes; the body comes behind, in pieces."""

    visit: int
    head: VisitHead


class Body(_Message, frozen=True):
    """The next piece of a visit's body."""

    visit: int
    data: bytes
    more: bool


class Taken(_Message, frozen=True):
    """A chunk of a visit's answer has gone on: another may come."""

    visit: int


class Left(_Message, frozen=True):
    """Nobody waits for a visit's answer any more; harmless after its end."""

    visit: int


class Close(_Message, frozen=True):
    """Unload the model and end."""


VisitCommand = Visit | Body | Taken | Left
Command = Start | Run | Cancel | Took | Answer | Visit | Body | Taken | Left | Close

CHUNK_BYTES = 1 << 16
CHUNKS_AHEAD = 8
"""How long a piece of a visit's body or answer may be, and how many may be on their way before the
other end has taken any."""


# -- events ------------------------------------------------------------------------------------


class TensorLine(msgspec.Struct, frozen=True, array_like=True):
    """A TensorSpec; `shape` None is any."""

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    optional: bool = False
    labels: tuple[str, ...] = ()

    def spec(self, batched: bool) -> TensorSpec:
        """What it is a line of."""
        shape = self.shape
        if shape is None:
            shape = (-1, -1) if batched else (-1,)
        return TensorSpec(
            self.name, DATATYPES[self.datatype], shape, self.optional, self.labels,
            self.shape is None,
        )  # fmt: skip


class WorkerTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a model wants to be run; None where its author does not say.

    `concurrency` is how many batches one worker takes at a time. A model that looks at `requests`
    rather than at a batch is told their particulars, and fails or answers each by itself.
    """

    instances: int | None = None
    concurrency: int = 1
    timeout_s: float | None = None
    memory_limit_mb: int | None = None
    max_queue_delay_microseconds: int | None = None
    depends: tuple[str, ...] = ()
    requests: bool = False


class Loaded(_Message, frozen=True):
    """Commands are taken from now on: what the model is."""

    platform: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorLine, ...]
    outputs: tuple[TensorLine, ...]
    notes: tuple[str, ...]
    steady: bool
    terms: WorkerTerms
    signature: Signature | None = None
    explain: Signature | None = None
    defaults: dict[str, Packed] = {}
    """What stands for an optional input, for one item."""
    mount: str = ""
    """The path below which the model's own HTTP routes are, where it has any."""
    layout: BatchLayout | None = None
    ragged: frozenset[int] = frozenset()
    """Places of the inputs whose shapes may differ within a batch, for a model that looks at
    requests."""


class Done(_Message, frozen=True):
    """A job has ended: outputs of all requests but those in `errors`, merged, or where they cannot
    be, `each` request's own, None for one that is not there. `kept` says that the model holds on to
    the inputs' memory. Outputs of a model without batching are `stacked` as its inputs are.
    `parameters` are those of answers, by place among those without error; `reschedule` the places
    of requests that are to be run once more.
    """

    job: int
    outputs: list[Packed]
    errors: dict[int, InferdError]
    each: list[list[Packed | None]] | None = None
    kept: bool = False
    stacked: bool = False
    parameters: dict[int, dict[str, bool | int | float | str]] | None = None
    reschedule: tuple[int, ...] = ()


class Refused(_Message, frozen=True):
    """A job that was not run: the worker cannot read what it is told of it."""

    job: int
    error: InferdError


class Parked(_Message, frozen=True):
    """The model has taken a job's requests in and answers them later: it may be given others."""

    job: int


class Health(_Message, frozen=True):
    """The model says whether it is ready, when that has changed; until then it is."""

    ready: bool


class Part(_Message, frozen=True):
    """The next of a job's stream: outputs in the model's order, None for one that it does not have,
    or an error that does not end the stream. `final`: nothing comes behind it. `request` is the
    place of the one that it answers.
    """

    job: int
    outputs: list[Packed | None]
    parameters: dict[str, bool | int | float | str] | None = None
    error: InferdError | None = None
    final: bool = False
    request: int = 0


class Ask(_Message, frozen=True):
    """The model asks another one by its served name, perhaps only for its signature."""

    ask: int
    model: str
    method: str
    inputs: dict[str, Packed]
    session: str
    streams: bool
    signature_only: bool = False
    version: str = ""
    particulars: Particulars | None = None


class Manage(_Message, frozen=True):
    """The model wants another one loaded, with a configuration as JSON in place of its own and
    files, by `<version>/<name>`, or unloaded, perhaps with its `dependents`, or asks whether it is
    ready; the Answer says 1 for yes."""

    ask: int
    action: Literal["load", "unload", "ready"]
    model: str
    version: str = ""
    config: str = ""
    files: dict[str, bytes] = {}
    dependents: bool = False


class Meter(_Message, frozen=True):
    """The model makes a metric of its own: a family, or with `labels` one of a family. The Answer
    says that it is there, by the number of the Ask, or why not."""

    ask: int
    family: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: dict[str, str] | None = None
    buckets: tuple[float, ...] = ()


class Metered(_Message, frozen=True):
    """A metric has moved. Only `value` is answered, under the number `ask`."""

    meter: int
    what: Literal["increment", "set", "observe", "value", "drop"]
    value: float = 0.0
    ask: int = 0


class Forget(_Message, frozen=True):
    """Nobody waits for an Ask any more."""

    ask: int


class Head(_Message, frozen=True):
    """The head of the answer to a visit; a chunk follows."""

    visit: int
    status: int
    headers: list[tuple[bytes, bytes]]


class Chunk(_Message, frozen=True):
    """The next piece of the answer to a visit."""

    visit: int
    data: bytes
    more: bool


class Drunk(_Message, frozen=True):
    """A piece of a visit's body was taken: another may come."""

    visit: int


class Parted(_Message, frozen=True):
    """A visit has ended, with an error where its answer is not whole."""

    visit: int
    error: InferdError | None = None


class Failed(_Message, frozen=True):
    """The model could not be loaded; the last event."""

    error: InferdError


VisitEvent = Head | Chunk | Drunk | Parted
Question = Ask | Forget | Manage | Meter | Metered
Event = (
    Loaded
    | Health
    | Done
    | Refused
    | Parked
    | Part
    | Ask
    | Forget
    | Manage
    | Meter
    | Metered
    | Head
    | Chunk
    | Drunk
    | Parted
    | Failed
    | Logged
)
