"""What an engine is told (commands) and what it says (events), wherever it runs.

Plain typed values: they refuse to know whether they go through a queue or over a socket.
"""

import msgspec

from inferd.config.engine import EngineConfig
from inferd.engine.core import SequenceUpdate
from inferd.errors import InferdError
from inferd.observability.generation_statistics import EngineGauges
from inferd.processes.log_lines import Logged
from inferd.types.generation import GenerationRequest


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One message; on the wire a list that starts with its name."""


# -- commands ----------------------------------------------------------------------------------


class Start(_Message, frozen=True):
    """To a process that has just begun: what to load, and from which level on to log."""

    folder: str
    config: EngineConfig
    log_level: int


class Add(_Message, frozen=True):
    """Take in a request, checked already. What is wrong all the same comes back as Refused."""

    request: GenerationRequest


class Abort(_Message, frozen=True):
    """Forget a request; harmless after its end."""

    request_id: str


class Finish(_Message, frozen=True):
    """A stop string was found in a sequence's text; harmless after its end."""

    sequence_id: int


class Close(_Message, frozen=True):
    """End; what runs is forgotten."""


Command = Add | Abort | Finish | Close
ChildCommand = Start | Command


# -- events ------------------------------------------------------------------------------------


class Progress(_Message, frozen=True):
    """How many bytes of the weights are there."""

    done: int
    total: int


class Loaded(_Message, frozen=True):
    """Commands are taken from now on. `notes` are what was decided at load, each with its why."""

    max_len: int
    notes: tuple[str, ...]


class Refused(_Message, frozen=True):
    """A request was not taken in."""

    request_id: str
    error: InferdError


class Stepped(_Message, frozen=True):
    """What a step brought, and how the engine stands after it."""

    updates: list[SequenceUpdate]
    gauges: EngineGauges


class Ended(_Message, frozen=True):
    """The last event of an engine that was not told to end: it did not load, or it died."""

    error: InferdError


Event = Progress | Loaded | Refused | Stepped | Ended
ChildEvent = Event | Logged
