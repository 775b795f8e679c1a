"""The thread of a server within a process: an event loop of its own with a core on it, and the one
way in, for any thread.

Every request that is taken ends in one answer or one error, also when the loop ends before it.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from typing import Any

import uvloop

from inferd.batching.queue import OnDone, QueuedRequest
from inferd.config.server import ServerConfig
from inferd.core import Core
from inferd.embedded.feed import Feed
from inferd.embedded.mailbox import Mailbox
from inferd.errors import BackendError, InferdError, ModelUnavailable, Unsupported
from inferd.serving.served_model import ServedModel
from inferd.types.inference import InferenceRequest, InferenceResponse

_log = logging.getLogger("inferd.embedded")


class Ticket:
    """One request that was handed over; all but `cancel` is for the loop's thread."""

    __slots__ = ("done", "item", "left", "request")

    def __init__(self, request: InferenceRequest, done: OnDone) -> None:
        self.request = request
        self.done = done
        self.item: QueuedRequest | None = None
        self.left = False


class CoreThread:
    """A core on a loop in a thread. What has no other word may be called from any thread."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises ConfigError."""
        self._core = Core(config)
        self._config = config
        self._process = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._mailbox = Mailbox(self._loop)
        self._started: Future[None] = Future()
        self._tickets: set[Ticket] = set()
        self._asked: set[Future[Any]] = set()
        self._at_exit = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="inferd", daemon=True)

    def start(self) -> None:
        """Return when what should be served at start is; raises ConfigError, then nothing stays."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            if self._started.done():
                self._thread.join()
            else:  # whoever waited was interrupted
                self.tell_to_stop()
            raise

    # -- asking --------------------------------------------------------------------------------

    def submit(self, request: InferenceRequest, done: OnDone) -> Ticket:
        """Hand a request over; `done` gets the answer or an error, once, on any thread, unless the
        ticket is given back. Raises Unsupported behind a fork."""
        ticket = Ticket(request, done)
        self._post(self._begin, ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits any more; harmless after the answer."""
        self._post(self._leave, ticket)

    def feed(self, feed: Feed) -> None:
        """Hand a stream over."""
        self._post(self._begin_feed, feed)

    def took(self, feed: Feed) -> None:
        """The reader has taken a part."""
        self._post(feed.room.release)

    def drop(self, feed: Feed) -> None:
        """Nobody reads any more; harmless after the end."""
        self._post(self._leave_feed, feed)

    def call(self, function: Callable[[Core], Any]) -> Any:
        """What a function of the core's returns, or awaits, on the loop's thread; raises what it
        raises, and ModelUnavailable when the server is closed."""
        return self._asking(function).result()

    async def acall(self, function: Callable[[Core], Any]) -> Any:
        """The same from the caller's own event loop; it goes on when the wait is left."""
        return await asyncio.wrap_future(self._asking(function))

    def _asking(self, function: Callable[[Core], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._post(self._ask, future, function)
        return future

    def glance(self, name: str, version: str) -> ServedModel | None:
        """The model that a request would get if it were there now; only a hint. Look-ups in a dict
        need no turn of the loop."""
        try:
            return self._core.manager.predictive(name, version)
        except (InferdError, RuntimeError):  # the request will be told; a dict changed
            return None

    @property
    def ended(self) -> bool:
        """Whether nothing is answered any more."""
        return self._ended or os.getpid() != self._process

    def _post(self, call: Callable[..., object], *args: Any) -> None:
        if os.getpid() != self._process:
            raise Unsupported(
                "this process was forked from the one that the server is in; make an "
                "inferd.Server here, or start processes with the method 'spawn'"
            )
        if not self._mailbox.post(call, *args):
            self._mailbox.empty()  # refuses, since the loop has ended

    # -- the end -------------------------------------------------------------------------------

    def tell_to_stop(self) -> None:
        """Have it finish what is in flight and end, without waiting."""
        if os.getpid() == self._process:
            self._mailbox.post(self._core.stop.set)

    def stop(self) -> None:
        """The same, and wait for it."""
        self.tell_to_stop()
        if os.getpid() == self._process and threading.current_thread() is not self._thread:
            self._thread.join()

    def stop_at_exit(self) -> None:
        """When the interpreter ends: other threads cannot be started any more, so models are not
        closed; their workers end with this process."""
        self._at_exit = True
        self.stop()

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._started.done():
                _log.error("the server's loop ended", exc_info=error)
            else:
                self._started.set_exception(error)
        finally:
            self._ended = True
            self._refuse_all()

    async def _live(self) -> None:
        core = self._core
        try:
            try:
                loaded = await core.start()
            except BaseException:
                await core.shut_down()
                raise
            if loaded:
                self._started.set_result(None)
                await core.stop.wait()
                await self._shut_down(core)
        finally:
            await core.end()
            self._ended = True

    async def _shut_down(self, core: Core) -> None:
        if not self._at_exit:
            await core.shut_down()
            return
        core.data.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.exit_timeout_secs):
                await core.manager.drain()

    def _refuse_all(self) -> None:
        """What is left when the loop has ended, for whatever reason."""
        if not self._started.done():
            self._started.set_exception(_closed())
        for ticket in list(self._tickets):
            self._answer(ticket, _closed())
        for future in list(self._asked):
            _settle(future, _closed())
        self._mailbox.empty()

    # -- requests, on the thread ---------------------------------------------------------------

    def _begin(self, ticket: Ticket) -> None:
        if ticket.left:
            return
        if self._ended:
            ticket.done(_closed())
            return
        self._tickets.add(ticket)
        try:
            ticket.item = self._core.data.submit(ticket.request, partial(self._answer, ticket))
        except InferdError as error:
            self._answer(ticket, error)
        except Exception as error:
            _log.exception("a request raised")
            self._answer(ticket, _fault(error))

    def _answer(self, ticket: Ticket, result: InferenceResponse | InferdError) -> None:
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            ticket.item = None
            ticket.done(result)

    def _leave(self, ticket: Ticket) -> None:
        ticket.left = True
        self._tickets.discard(ticket)
        if ticket.item is not None and not self._ended:
            ticket.item.cancel()

    def _begin_feed(self, feed: Feed) -> None:
        if self._ended:
            feed.put(_closed())
        elif not feed.left:
            feed.task = self._loop.create_task(self._read(feed))

    async def _read(self, feed: Feed) -> None:
        end: InferdError | None = _closed()
        try:
            async with aclosing(feed.open(self._core)) as parts:
                async for part in parts:
                    await feed.room.acquire()
                    feed.put(part)
            end = None
        except InferdError as error:
            end = error
        except Exception as error:
            _log.exception("a stream raised")
            end = _fault(error)
        finally:
            feed.put(end)

    def _leave_feed(self, feed: Feed) -> None:
        feed.left = True
        if feed.task is not None and not self._ended:
            feed.task.cancel()

    # -- calls, on the thread ------------------------------------------------------------------

    def _ask(self, future: "Future[Any]", function: Callable[[Core], Any]) -> None:
        if self._ended:
            _settle(future, _closed())
            return
        self._asked.add(future)
        try:
            value = function(self._core)
        except Exception as error:
            self._asked.discard(future)
            _settle(future, error)
            return
        if not inspect.iscoroutine(value):
            self._asked.discard(future)
            _settle(future, None, value)
            return
        task = self._loop.create_task(value)
        task.add_done_callback(partial(self._asked_for, future))

    def _asked_for(self, future: "Future[Any]", task: "asyncio.Task[Any]") -> None:
        self._asked.discard(future)
        if task.cancelled():
            _settle(future, _closed())
        elif (error := task.exception()) is not None:
            _settle(future, error)
        else:
            _settle(future, None, task.result())


def _settle(future: "Future[Any]", error: BaseException | None, value: Any = None) -> None:
    """Tell who waits, unless that has been done, or nobody does any more."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def _closed() -> ModelUnavailable:
    return ModelUnavailable("the server is closed")


def _fault(error: Exception) -> BackendError:
    fault = BackendError(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault
