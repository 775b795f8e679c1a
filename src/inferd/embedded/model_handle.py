"""One model of a server in this process, as its callers see it, on any thread or event loop."""

import asyncio
import time
from _thread import allocate_lock
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from inferd.embedded.core_thread import CoreThread
from inferd.embedded.feed import aparts, parts
from inferd.embedded.generation import Prompt, Question
from inferd.embedded.mailbox import mailbox_here
from inferd.embedded.result import Result
from inferd.embedded.tensors import tensors
from inferd.errors import InferdError, InvalidRequest, OnlyStreams
from inferd.protocols.oip.metadata import model_metadata
from inferd.protocols.oip.model_config import model_config
from inferd.protocols.oip.parameters import request_options
from inferd.protocols.oip.statistics import statistics
from inferd.types.generation import GenerationDelta, GenerationOutput
from inferd.types.inference import InferenceRequest, InferenceResponse, RequestedOutput

if TYPE_CHECKING:
    from inferd.embedded.server import Server

Answer = InferenceResponse | InferdError
Inputs = Mapping[str, Any]


class Asked(TypedDict, total=False):
    """What may be said of a request beside its inputs."""

    outputs: Sequence[str] | None
    """Names of those that are wanted, None for all."""
    parameters: Mapping[str, Any] | None
    """What the model is told, and what the protocol knows: `timeout`, in microseconds, is the most
    that it waits in the queue."""
    request_id: str
    """The caller's own, which comes back."""
    priority: int
    """1 is the most urgent, 0 the model's default."""
    timeout: float | None
    """Seconds that the whole request may take."""
    sequence_id: int | str
    sequence_start: bool
    sequence_end: bool
    """Where it stands in which sequence."""
    session: str
    """Requests of one session go to one instance of a model that keeps state."""


class ModelHandle:
    """One model, or one version of it; it need not be loaded yet. Made by `Server.model`.

        result = model.infer({"INPUT0": array})
        result = await model.ainfer({"INPUT0": array})
        for result in model.stream({"INPUT0": array}): ...
        async for result in model.astream({"INPUT0": array}): ...
        model.generate("Once upon a time").generations[0].text

    `inputs` are arrays by name. An array of numpy is not copied: the model reads the caller's
    memory, so leave it alone until the answer is there. One that is not C-contiguous, or unaligned,
    is copied where the framework needs it; requests that run as one batch are joined, which is a
    copy, too. What speaks DLPack (tensors of torch on the CPU) is read where it lies. Lists become
    what the model takes, `str` and `bytes` BYTES; None leaves an optional input out.

    What all four take beside is in `Asked`.

    They raise what is in `inferd.errors`: InvalidRequest, ModelNotFound, ModelUnavailable,
    Overloaded, RequestTimeout, BackendError, Unsupported.
    """

    def __init__(self, server: "Server", thread: CoreThread, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._server = server  # it must not be collected while it is asked
        self._thread = thread

    def __repr__(self) -> str:
        return f"<model {self.name!r}{f' version {self.version}' if self.version else ''}>"

    # -- inference -----------------------------------------------------------------------------

    def infer(self, inputs: Inputs, **asked: Unpack[Asked]) -> Result:
        """Run the model and wait. An interrupt of the wait cancels the request."""
        request = self._request(inputs, False, asked)
        wait = _Wait()
        ticket = self._thread.submit(request, wait)
        try:
            wait.lock.acquire()
        except BaseException:
            self._thread.cancel(ticket)
            raise
        return _result(wait.answer)

    async def ainfer(self, inputs: Inputs, **asked: Unpack[Asked]) -> Result:
        """The same from the caller's own event loop, which goes on; leaving the wait cancels the
        request."""
        request = self._request(inputs, False, asked)
        mailbox = mailbox_here()
        future: asyncio.Future[Answer] = mailbox.loop.create_future()

        def done(answer: Answer) -> None:
            mailbox.post(_tell, future, answer)

        ticket = self._thread.submit(request, done)
        try:
            answer = await future
        except asyncio.CancelledError:
            self._thread.cancel(ticket)
            raise
        return _result(answer)

    def stream(self, inputs: Inputs, **asked: Unpack[Asked]) -> Generator[Result, None, None]:
        """What comes of one request, as it comes: of a model that streams any number of results, of
        any other one. It begins with the first look; closing the generator cancels it, and so does
        an error among the answers, which is raised."""
        request = self._request(inputs, True, asked)
        return parts(self._thread, lambda core: core.data.stream(request), Result)

    def astream(self, inputs: Inputs, **asked: Unpack[Asked]) -> AsyncGenerator[Result, None]:
        """The same from the caller's own event loop."""
        request = self._request(inputs, True, asked)
        return aparts(self._thread, lambda core: core.data.stream(request), Result)

    # -- text ----------------------------------------------------------------------------------

    def generate(self, prompt: Prompt, **options: Any) -> GenerationOutput:
        """All that a language model makes of a prompt: a text, the ids of its tokens, or a chat,
        which is a list of messages.

            model.generate("Once upon a time", max_tokens=20).generations[0].text
            model.generate([{"role": "user", "content": "Hello"}], temperature=0)

        `options` are the fields of `POST /v1/completions`, for a chat of `POST
        /v1/chat/completions`, with their defaults: of text 16 tokens. Raises as `infer`, TypeError
        for an option that is unknown, and EngineDead.
        """
        question = Question(self.name, self.version, prompt, options)
        output: GenerationOutput
        (output,) = parts(self._thread, question.whole, _itself)
        return output

    async def agenerate(self, prompt: Prompt, **options: Any) -> GenerationOutput:
        """The same from the caller's own event loop; leaving the wait ends it."""
        question = Question(self.name, self.version, prompt, options)
        output: GenerationOutput
        async with aclosing(aparts(self._thread, question.whole, _itself)) as outputs:
            (output,) = [output async for output in outputs]
        return output

    def generate_stream(
        self, prompt: Prompt, **options: Any
    ) -> Generator[GenerationDelta, None, None]:
        """What is made of a prompt, as it comes; the last delta of each sequence says why it ended.
        It begins with the first look; closing the generator ends it."""
        question = Question(self.name, self.version, prompt, options)
        return parts(self._thread, question.deltas, _itself)

    def agenerate_stream(
        self, prompt: Prompt, **options: Any
    ) -> AsyncGenerator[GenerationDelta, None]:
        """The same from the caller's own event loop."""
        question = Question(self.name, self.version, prompt, options)
        return aparts(self._thread, question.deltas, _itself)

    def _request(self, inputs: Inputs, streams: bool, asked: Asked) -> InferenceRequest:
        """What a caller says as a request; raises InvalidRequest."""
        served = self._thread.glance(self.name, self.version)
        if served is not None and served.signature.streams and not streams:
            raise OnlyStreams(
                f"model '{self.name}' answers with a stream; use stream() or astream()"
            )
        specs = {spec.name: spec for spec in served.description.inputs} if served else {}
        request = InferenceRequest(self.name, self.version, tensors(inputs, specs))
        if asked:
            _ask(request, asked)
        return request

    # -- what it is ----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether it would be run now; raises ModelNotFound for one that does not exist."""
        ready: bool = self._ask(lambda core: core.data.model_ready(self.name, self.version))
        return ready

    def metadata(self) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs, as the protocol has them; raises
        ModelNotFound or ModelUnavailable."""
        data: dict[str, Any] = self._ask(
            lambda core: model_metadata(core.data.metadata(self.name, self.version))
        )
        return data

    def config(self) -> dict[str, Any]:
        """The configuration in force, in the fields of Triton's ModelConfig; raises likewise."""
        config: dict[str, Any] = self._ask(
            lambda core: model_config(core.data.served(self.name, self.version))
        )
        return config

    def statistics(self) -> dict[str, Any]:
        """What the protocol's statistics extension says; raises InvalidRequest."""
        found: dict[str, Any] = self._ask(
            lambda core: statistics(core.control, self.name, self.version)
        )
        return found

    def _ask(self, function: "Any") -> Any:
        return self._thread.call(function)


def _ask(request: InferenceRequest, asked: Asked) -> None:
    """Put into a request what was said beside its inputs; raises InvalidRequest."""
    unknown = asked.keys() - Asked.__optional_keys__
    if unknown:
        raise TypeError(f"unknown option {unknown.pop()!r}, {', '.join(Asked.__annotations__)}")
    outputs, timeout = asked.get("outputs"), asked.get("timeout")
    if outputs is not None:
        if isinstance(outputs, str):
            raise InvalidRequest(f"outputs is a list of names; write ['{outputs}']")
        request.outputs = [RequestedOutput(name) for name in outputs]
    if timeout is not None:
        if not timeout > 0:
            raise InvalidRequest(f"timeout is in seconds, more than 0; got {timeout!r}")
        request.deadline_ns = time.perf_counter_ns() + int(timeout * 1e9)
    request.id = asked.get("request_id", "")
    request.session = asked.get("session", "")
    wire = dict(asked.get("parameters") or {})
    wire |= {name: asked[name] for name in _IN_PARAMETERS if name in asked}  # type: ignore[literal-required]
    if wire:
        said = request_options(wire)
        request.parameters, request.timeout_us = said.parameters, said.timeout_us
        request.priority, request.sequence = said.priority, said.sequence


_IN_PARAMETERS = ("priority", "sequence_id", "sequence_start", "sequence_end")
"""What the protocol has among a request's parameters."""


class _Wait:
    """One answer for one thread, which a lock is enough for."""

    __slots__ = ("answer", "lock")

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.lock.acquire()
        self.answer: Answer

    def __call__(self, answer: Answer) -> None:
        self.answer = answer
        self.lock.release()


def _tell(future: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _itself(part: Any) -> Any:
    return part


def _result(answer: Answer) -> Result:
    if isinstance(answer, InferdError):
        raise answer
    return Result(answer)
