"""A model class brought to life: an instance, its sessions, and the runs of its methods.

Where it runs, on which thread, and how long it may take is not known here.
"""

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any, NoReturn

from inferd.errors import BackendError, InferdError, ModelUnavailable, Unsupported
from inferd.sdk.ask import Ask
from inferd.sdk.call import Call, Joined, Outcome
from inferd.sdk.card import ModelCard, make_card
from inferd.sdk.chain import Chain
from inferd.sdk.depends import aclose_local, close_local, dependency_cards
from inferd.sdk.interface import Interface, read_interface
from inferd.sdk.model import Model, place
from inferd.sdk.run import Run
from inferd.sdk.session import Session, SessionStore
from inferd.types.tensor import Array

_FAILURES = (Exception, SystemExit)
"""What an author's code may raise without ending more than its call; `sys.exit` is one."""


class ModelRuntime:
    """One instance of a model class. Making one reads the class, and raises TypeError that names
    what is wrong with it; `load` makes the instance.

    `run` and `stream` are called by one thread at a time; `arun` and `astream` on one event loop,
    many at a time where the card `is_async`. Of a model that is not async they block the loop.
    What the author's code raises is logged under `inferd.model.<name>` with its traceback, and
    becomes a BackendError, an InferdError stays what it is.
    """

    def __init__(
        self,
        model_class: type[Model],
        *,
        name: str | None = None,
        device: str | None = None,
        ask: Ask | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._class = model_class
        options = model_class.options
        if options.mount and not hasattr(model_class, "asgi"):
            raise TypeError(
                f"{model_class.__name__}: option 'mount' says where its 'asgi' answers, and it has "
                "none; write it, or leave out mount"
            )
        self._device = device or options.device
        self._ask = ask
        self._clock = clock
        self._interfaces = {"predict": read_interface(model_class)}
        if hasattr(model_class, "explain"):
            self._interfaces["explain"] = read_interface(model_class, "explain")
        self.card: ModelCard = make_card(
            name or options.name,
            options,
            self._interfaces["predict"],
            self._interfaces.get("explain"),
            dependency_cards(model_class),
            hasattr(model_class, "asgi"),
        )
        self._sessions = SessionStore(options.max_sessions, options.session_idle_s)
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The instance; raises ModelUnavailable before `load` and after `unload`."""
        if self._model is None:
            raise ModelUnavailable(f"model '{self.card.name}' is not loaded")
        return self._model

    def load(self) -> None:
        """Make the instance and have it load; raises BackendError."""
        model = self._make()
        try:
            waits = model.load()
        except _FAILURES as error:
            self._fail(model, error, "load")
        if inspect.isawaitable(waits):
            _dismiss(waits)
            raise BackendError(f"{self._class.__name__}.load is async; its predict must be, too")
        self._model = model

    async def aload(self) -> None:
        """As `load`, also for a model whose `load` is async."""
        model = self._make()
        try:
            waits = model.load()
            if inspect.isawaitable(waits):
                await waits
        except _FAILURES as error:
            self._fail(model, error, "load")
        self._model = model

    def unload(self) -> None:
        """Have the instance let go, and forget it; raises BackendError."""
        if self._model is None:
            return
        model = self._forget()
        close_local(model)
        try:
            waits = model.unload()
        except _FAILURES as error:
            self._fail(model, error, "unload")
        if inspect.isawaitable(waits):
            _dismiss(waits)
            raise BackendError(f"{self._class.__name__}.unload is async; its predict must be, too")

    async def aunload(self) -> None:
        """As `unload`, also for a model whose `unload` is async."""
        if self._model is None:
            return
        model = self._forget()
        await aclose_local(model)
        try:
            waits = model.unload()
            if inspect.isawaitable(waits):
                await waits
        except _FAILURES as error:
            self._fail(model, error, "unload")

    def asgi(self) -> Any:
        """The ASGI application of the class, None where it has none; raises BackendError."""
        app = getattr(self.model, "asgi", None)
        if app is None or not inspect.ismethod(app) or inspect.signature(app).parameters:
            return app
        try:
            return app()
        except _FAILURES as error:
            self._fail(self.model, error, "asgi")

    def run(self, call: Call) -> list[Outcome]:
        """Run a batch: an outcome for each request. Whatever goes wrong is an outcome.

        Where a run fails as a whole, all its requests share one error.
        """
        return self.run_joined(call).split(call.rows)

    async def arun(self, call: Call) -> list[Outcome]:
        """As `run`, for methods of which any may be async."""
        return (await self.arun_joined(call)).split(call.rows)

    def run_joined(self, call: Call) -> Joined:
        """As `run`, with the outputs of all requests in one array each."""
        try:
            run = self._start(call)
        except InferdError as error:
            return Joined([], dict.fromkeys(range(len(call.rows)), error))
        if not run.alive:
            return Joined([], run.failed)
        try:
            return run.finish(Chain(self.model, call.method).call(run.keywords))
        except _FAILURES as error:
            return run.fail(self._failure(self.model, error))

    async def arun_joined(self, call: Call) -> Joined:
        """As `run_joined`, for methods of which any may be async."""
        try:
            run = self._start(call, can_wait=True)
        except InferdError as error:
            return Joined([], dict.fromkeys(range(len(call.rows)), error))
        if not run.alive:
            return Joined([], run.failed)
        try:
            return run.finish(await Chain(self.model, call.method).acall(run.keywords))
        except _FAILURES as error:
            return run.fail(self._failure(self.model, error))

    def stream(self, call: Call) -> Generator[list[Array], None, None]:
        """The parts of the one request's answer; of a model that does not stream, its only one.

        Raises InferdError at the first part or between parts. Closing it closes the author's
        generator.
        """
        if not self._interface(call.method).signature.streams:
            yield _outputs(self.run(call))
            return
        run = self._start(call, streams=True)
        for error in run.failed.values():
            raise error
        parts = Chain(self.model, call.method).stream(run.keywords)
        with closing(parts):
            try:
                for part in parts:
                    yield run.part(part)
            except _FAILURES as error:
                self._fail(self.model, error)

    async def astream(self, call: Call) -> AsyncGenerator[list[Array], None]:
        """As `stream`, for methods of which any may be async."""
        if not self._interface(call.method).signature.streams:
            yield _outputs(await self.arun(call))
            return
        run = self._start(call, streams=True, can_wait=True)
        for error in run.failed.values():
            raise error
        parts = Chain(self.model, call.method).astream(run.keywords)
        async with aclosing(parts):
            try:
                async for part in parts:
                    yield run.part(part)
            except _FAILURES as error:
                self._fail(self.model, error)

    def _make(self) -> Model:
        model = self._class.__new__(self._class)
        place(model, self.card.name, self._device, self._ask)
        try:
            model.__init__()  # type: ignore[misc]
        except _FAILURES as error:
            self._fail(model, error, "__init__")
        return model

    def _forget(self) -> Model:
        model, self._model = self.model, None
        self._sessions.clear()
        return model

    def _interface(self, method: str) -> Interface:
        interface = self._interfaces.get(method)
        if interface is None:
            raise Unsupported(f"model '{self.card.name}' has no method '{method}'")
        return interface

    def _start(self, call: Call, streams: bool = False, can_wait: bool = False) -> Run:
        """The call's arguments; raises InferdError."""
        interface = self._interface(call.method)
        if self._model is None:
            raise ModelUnavailable(f"model '{self.card.name}' is not loaded")
        if interface.signature.streams and not streams:
            raise Unsupported(f"model '{self.card.name}' answers with a stream")
        if interface.is_async and not can_wait:
            raise Unsupported(f"model '{self.card.name}' is async, and runs on an event loop")
        return Run(interface, call, self._session)

    def _session(self, id: str) -> Session:
        return self._sessions.get(id, self._clock())

    def _fail(self, model: Model, error: BaseException, where: str = "") -> NoReturn:
        failure = self._failure(model, error, where)
        raise failure from (None if failure is error else error)

    def _failure(self, model: Model, error: BaseException, where: str = "") -> InferdError:
        if isinstance(error, InferdError):
            return error
        model.log.error("%s raised", where or "a call", exc_info=error)
        place_of = f"{self._class.__name__}.{where} raised " if where else ""
        return BackendError(f"{place_of}{type(error).__name__}: {error}")


def _outputs(outcomes: list[Outcome]) -> list[Array]:
    """Those of the only request; raises its error."""
    (outcome,) = outcomes
    if isinstance(outcome, InferdError):
        raise outcome
    return outcome


def _dismiss(waits: Any) -> None:
    """A coroutine that is never awaited would warn."""
    close = getattr(waits, "close", None)
    if close is not None:
        close()
