"""Which requests are traced: Triton's trace settings, the server's and those that models have of
their own, and the counting that picks requests.

Pure: no clock and no file. What is kept of a request goes to a TraceSink, some at a time.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from inferd.errors import InvalidRequest

CHUNK = 256
"""Traces that are handed to the sink together where settings do not say how many."""


class TraceSettings(msgspec.Struct, frozen=True):
    """Every `rate`-th request that ends, `count` more of them (-1: any number); each
    `log_frequency` make a file, with 0 all of them one, and so do those up to the last of `count`.
    """

    timestamps: bool = False
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0

    @property
    def on(self) -> bool:
        """Whether there is anything to trace."""
        return self.timestamps and self.count != 0


class Compute(NamedTuple):
    """When a batch was run: began, had its inputs, had its outputs, had them split."""

    start_ns: int
    input_end_ns: int
    output_start_ns: int
    end_ns: int


class Trace(NamedTuple):
    """What is kept of a request; one that no model has answered has no `compute`."""

    id: int
    model: str
    version: int
    request_id: str
    came_ns: int
    ended_ns: int
    compute: Compute | None


class TraceSink(Protocol):
    """Where traces go."""

    @property
    def name(self) -> str:
        """What settings call it."""

    def write(self, traces: list[Trace], apart: bool) -> None:
        """Take traces, to be kept `apart` from those before or with them; does not wait."""


class Sampler:
    """Picks requests by settings. It counts `settings.count` down."""

    __slots__ = ("collected", "seen", "settings")

    def __init__(self, settings: TraceSettings) -> None:
        self.settings = settings
        self.seen = 0
        self.collected: list[Trace] = []

    def takes(self) -> bool:
        """Whether a request that has ended is to be traced."""
        settings = self.settings
        if not settings.on:
            return False
        self.seen += 1
        if self.seen % settings.rate:
            return False
        if settings.count > 0:
            self.settings = msgspec.structs.replace(settings, count=settings.count - 1)
        return True


class ModelTrace:
    """What runs one model asks it whether the model is traced, and tells it how requests went."""

    __slots__ = ("_tracing", "name", "on", "sampler")

    def __init__(self, name: str, tracing: "Tracing", sampler: Sampler) -> None:
        self._tracing = tracing
        self.name = name
        self.follow(sampler)

    def follow(self, sampler: Sampler) -> None:
        """Have a sampler pick requests from now on."""
        self.sampler = sampler
        self.on = sampler.settings.on

    def ended(
        self, version: int, request_id: str, came_ns: int, ended_ns: int, compute: Compute | None
    ) -> None:
        """A request has ended."""
        if self.sampler.takes():
            number = self._tracing.next_id()
            trace = Trace(number, self.name, version, request_id, came_ns, ended_ns, compute)
            self._tracing.collect(self.sampler, trace)


class Tracing:
    """All settings, and a sampler for each scope that has some: the server, which is nameless, and
    models that differ from it."""

    def __init__(self, sink: TraceSink | None = None) -> None:
        self._sink = sink
        self._said: dict[str, dict[str, Any]] = {"": {}}
        self._samplers = {"": Sampler(TraceSettings())}
        self._models: dict[str, ModelTrace] = {}
        self._ids = itertools.count(1)

    @property
    def file(self) -> str:
        """Where traces are written; empty where they cannot be."""
        return self._sink.name if self._sink is not None else ""

    def model(self, name: str) -> ModelTrace:
        """The one for a model, of whichever version."""
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = ModelTrace(name, self, self._sampler(name))
        return found

    def settings(self, name: str = "") -> TraceSettings:
        """Those in force for a model, or for all that have none of their own."""
        return self._sampler(name).settings

    def change(self, changes: Mapping[str, Any], name: str = "") -> None:
        """Say something of fields of a scope; None takes back what was said. Counting begins anew
        where that changes anything. Raises InvalidRequest where there is nowhere to write to."""
        for scope, said in self._said.items():
            if "count" in said:
                said["count"] = self._samplers[scope].settings.count
        said = {**self._said.get(name, {}), **changes}
        said = {field: value for field, value in said.items() if value is not None}
        if said.get("timestamps") and self._sink is None:
            raise InvalidRequest(
                "nothing can be traced without a file to write to: start the server with "
                "--trace-file PATH"
            )
        self._said[name] = said
        if name and not said:
            del self._said[name]
        before, self._samplers = self._samplers, {}
        for scope, said in self._said.items():
            settings = TraceSettings(**{**self._said[""], **said})
            sampler = before.get(scope)
            if sampler is not None and sampler.settings == settings:
                del before[scope]
            else:
                sampler = Sampler(settings)
            self._samplers[scope] = sampler
        for replaced in before.values():
            self._write(replaced)
        for model in self._models.values():
            model.follow(self._sampler(model.name))

    def next_id(self) -> int:
        """A number for a trace."""
        return next(self._ids)

    def collect(self, sampler: Sampler, trace: Trace) -> None:
        """Keep a trace until there are enough of them to be written."""
        sampler.collected.append(trace)
        if len(sampler.collected) >= (sampler.settings.log_frequency or CHUNK):
            self._write(sampler)
        if not sampler.settings.on:  # that was the last
            self._write(sampler, apart=True)
            for model in self._models.values():
                model.follow(model.sampler)

    def flush(self) -> None:
        """Write what has been collected."""
        for sampler in self._samplers.values():
            self._write(sampler)

    def _sampler(self, name: str) -> Sampler:
        return self._samplers.get(name) or self._samplers[""]

    def _write(self, sampler: Sampler, apart: bool = False) -> None:
        traces, sampler.collected = sampler.collected, []
        if traces and self._sink is not None:
            self._sink.write(traces, apart or sampler.settings.log_frequency > 0)


NOT_TRACED = Tracing().model("")
"""For a model of which nobody has said anything."""
