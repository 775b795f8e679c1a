"""What models ask of the server: answers of other models, each of which waits in the other's queue
like a request that came from outside; models loaded and unloaded; metrics. All calls on the loop's
thread.

Models that ask one another in a circle could wait for each other for ever. A model whose only
instance is the one that asks is refused at once, and so is one that holds a resource of which the
model that it asks needs more than is left; where models have been seen to form a circle, what
waits in a queue for longer than CIRCLE_WAIT_S is given up; and MOST_DEEP bounds the rest.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from inferd.batching.queue import QUEUED, QueuedRequest
from inferd.batching.rate_limiter import Limits
from inferd.errors import (
    BackendError,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    RequestTimeout,
    Unsupported,
)
from inferd.observability.custom_metrics import CustomMetrics, Meter
from inferd.serving.served_model import ServedModel
from inferd.serving.worker_seat import Seat
from inferd.types.datatype import DATATYPES
from inferd.types.inference import (
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    SequenceStep,
)
from inferd.types.tensor import Tensor
from inferd.workers import messages
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import Answer, Ask, Forget, Manage, Metered, Packed, Question

_log = logging.getLogger("inferd.models")

MOST_DEEP = 32
"""How many models may have asked one another for a request."""

CIRCLE_WAIT_S = 10.0

_START, _END = 1, 2

Resolve = Callable[[str, str], ServedModel]


class Control(Protocol):
    """What a model may have done to what is served: a ControlPlane's part."""

    async def load(
        self, name: str, config: object | None = None, files: Mapping[str, bytes] = ...
    ) -> None:
        """See ControlPlane."""

    async def unload(self, name: str, dependents: bool = False) -> None:
        """See ControlPlane."""


class Asks:
    """Takes what workers ask; `resolve` finds a model by name and version."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.control: Control | None = None
        self.metrics = CustomMetrics()
        self._calls: dict[str, set[str]] = {}
        self._managing: set[asyncio.Task[None]] = set()

    def heard(self, asker: str, seat: Seat, event: Question, holds: Limits | None = None) -> None:
        """A worker asks, or wants no answer any more; `holds` is what its model's instances hold
        while they run."""
        number = 0
        try:
            match event:
                case Forget(number):
                    item = seat.asks.pop(number, None)
                    if item is not None:
                        item.cancel()
                case Ask():
                    number = event.ask
                    self._ask(asker, seat, event, holds)
                case Manage():
                    task = asyncio.get_running_loop().create_task(self._manage(seat, event))
                    self._managing.add(task)
                    task.add_done_callback(self._managing.discard)
                case messages.Meter():
                    number = event.ask
                    self._meter(seat, event)
                case Metered():
                    self._metered(seat, event)
        except InferdError as error:
            seat.send(Answer(number, {}, error))

    # -- answers of other models -------------------------------------------------------------------

    def _ask(self, asker: str, seat: Seat, ask: Ask, holds: Limits | None) -> None:
        served = self._resolve(ask.model, ask.version)
        signature = served.explain_signature if ask.method == "explain" else served.signature
        if signature is None:
            raise InvalidRequest(f"model '{ask.model}' has no method '{ask.method}'")
        if ask.signature_only:
            seat.send(Answer(ask.ask, {}, signature=signature))
            return
        request = _request(ask)
        if request.depth > MOST_DEEP:
            raise InvalidRequest(
                f"model '{ask.model}' was not asked: {MOST_DEEP} models have asked one another for "
                "this request already"
            )
        if signature.streams and not ask.streams:
            raise Unsupported(
                f"Model {ask.model} is using the decoupled. The current BLS request call doesn't "
                "support models using the decoupled transaction policy. Please use "
                "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled "
                "models.'"
            )
        if holds is not None and seat.jobs:
            _check_resources(asker, holds, served)
        waits = self._in_circle(asker, seat, served)
        timer: asyncio.TimerHandle | None = None

        def tell(response: InferenceResponse, last: bool, final: bool = False) -> None:
            seat.send(Answer(ask.ask, _packed(response), last=last, final=final,
                             parameters=_plain(response)))  # fmt: skip

        def part(response: InferenceResponse | InferdError) -> None:
            if isinstance(response, InferdError):
                seat.send(Answer(ask.ask, {}, response, last=False))
            else:
                tell(response, False, response.final)
            served.took(item, 1)

        def done(result: InferenceResponse | InferdError) -> None:
            seat.asks.pop(ask.ask, None)
            if timer is not None:
                timer.cancel()
            if isinstance(result, InferdError):
                seat.send(Answer(ask.ask, {}, result))
                return
            if ask.streams and not signature.streams:  # a stream of one
                tell(result, False, True)
                result.outputs = []
            tell(result, True)

        item = served.submit(request, done, part if ask.streams else None)
        seat.asks[ask.ask] = item
        if waits:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(CIRCLE_WAIT_S, _give_up, seat, ask, item)

    def _in_circle(self, asker: str, seat: Seat, served: ServedModel) -> bool:
        """Whether the models form a circle, now that this one asks that one; raises InvalidRequest
        where it would wait for itself."""
        names = {served.name, *served.made_of}
        if asker in names and seat.busy:
            own = served if served.name == asker else self._resolve(asker, "")
            if own.instance_count == 1 and own.runs_one:
                raise InvalidRequest(
                    f"model '{asker}' asks itself, and its only instance is the one that asks: it "
                    "would wait for ever; give it more instances"
                )
        self._calls.setdefault(asker, set()).update(names)
        return self._reaches(served.name, asker)

    def _reaches(self, start: str, goal: str) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            name = waiting.pop()
            if name == goal:
                return True
            new = self._calls.get(name, set()) - seen
            seen |= new
            waiting += new
        return False

    # -- models ------------------------------------------------------------------------------------

    async def _manage(self, seat: Seat, event: Manage) -> None:
        value: float = 1.0
        error: InferdError | None = None
        try:
            await self._managed(event)
        except InferdError as raised:
            value, error = 0.0, raised if event.action != "ready" else None
        except Exception as raised:  # who asks waits for an answer, whatever it is
            _log.exception("a model's wish failed", extra={"wish": event.action})
            value, error = 0.0, BackendError(f"{type(raised).__name__}: {raised}")
        seat.send(Answer(event.ask, {}, error, value=value))

    async def _managed(self, event: Manage) -> None:
        if event.action == "ready":
            served = self._resolve(event.model, event.version)
            if served.trouble:
                raise ModelUnavailable(served.trouble)
            return
        if self.control is None:
            raise Unsupported("models cannot be loaded and unloaded here")
        if event.action == "unload":
            with contextlib.suppress(ModelNotFound):  # as in Triton
                await self.control.unload(event.model, event.dependents)
            return
        config = _json(event.config) if event.config else None
        if event.files and config is None:
            raise InvalidRequest("files of a model need its 'config' beside them")
        await self.control.load(event.model, config, event.files)

    # -- metrics -----------------------------------------------------------------------------------

    def _meter(self, seat: Seat, event: messages.Meter) -> None:
        family = self.metrics.family(event.family, event.kind, event.description)
        if event.labels is not None:
            meter = self.metrics.hold(family, event.labels, event.buckets)
            seat.meters[event.ask] = meter
            seat.drop_meter = self.metrics.drop
        seat.send(Answer(event.ask, {}))

    def _metered(self, seat: Seat, event: Metered) -> None:
        meter: Meter | None = seat.meters.get(event.meter)
        if meter is None:
            return
        match event.what:
            case "increment":
                meter.increment(event.value)
            case "set":
                meter.set(event.value)
            case "observe":
                meter.observe(event.value)
            case "value":
                seat.send(Answer(event.ask, {}, value=meter.value))
            case "drop":
                self.metrics.drop(seat.meters.pop(event.meter))


def _check_resources(asker: str, holds: Limits, served: ServedModel) -> None:
    """Raises InvalidRequest where the model that asks holds what the one that it asks needs."""
    for limits in served.limits:
        short = holds.shut_out(limits)
        if short is not None:
            name, both = short
            raise InvalidRequest(
                f"model '{asker}' asks model '{served.name}' while it holds the resource '{name}', "
                "of which too little is left for that to run: it would wait for ever; give both "
                f"enough with --rate-limit-resource {name}:{both}"
            )


def _request(ask: Ask) -> InferenceRequest:
    inputs = [
        Tensor(name, DATATYPES[packed.datatype], unpack(packed, None, False))
        for name, packed in ask.inputs.items()
    ]
    request = InferenceRequest(
        ask.model, ask.version, inputs, session=ask.session, method=ask.method
    )
    said = ask.particulars
    if said is not None:
        request.id, request.parameters, request.depth = said.id, said.parameters, said.depth
        request.priority, request.timeout_us = said.priority, said.timeout_us
        if said.outputs:
            request.outputs = [RequestedOutput(name) for name in said.outputs]
        if said.sequence:
            start, end = bool(said.flags & _START), bool(said.flags & _END)
            request.sequence = SequenceStep(said.sequence, start, end)
    return request


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"'config' is not JSON: {error}") from error


def _give_up(seat: Seat, ask: Ask, item: QueuedRequest) -> None:
    if item.stage is not QUEUED or seat.asks.get(ask.ask) is not item:
        return
    del seat.asks[ask.ask]
    item.cancel()
    seat.send(
        Answer(ask.ask, {}, RequestTimeout(
            f"model '{ask.model}' had no instance free within {CIRCLE_WAIT_S:g} s, and models ask "
            "one another in a circle: they may wait for each other; give them more instances"
        ))
    )  # fmt: skip


def _packed(response: InferenceResponse) -> dict[str, Packed]:
    return {t.name: pack_inline(t.datatype, t.array) for t in response.outputs}


def _plain(response: InferenceResponse) -> dict[str, Any] | None:
    return dict(response.parameters) if response.parameters else None
