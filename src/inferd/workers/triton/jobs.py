"""The jobs of a TritonPythonModel: `execute` runs on the worker's main thread, its answers may come
from any.
"""

import asyncio
import inspect
import threading
import weakref
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, Final

from inferd.errors import BackendError
from inferd.workers.desk import Desk
from inferd.workers.jobs import failure_of, noted, tell_end
from inferd.workers.messages import Done, Event, Health, Parked, Part, Run
from inferd.workers.runtime import Runtime
from inferd.workers.triton.call import DROPPED, Call
from inferd.workers.triton.flow import Flow
from inferd.workers.triton.request import InferenceRequest
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.runtime import TritonRuntime
from inferd.workers.triton.streamed_call import StreamedCall

READY_LOOK_S: Final = 0.5
"""How often a model that has is_ready is asked."""


class TritonJobs:
    """See Jobs (`workers/jobs.py`)."""

    def __init__(self, runtime: Runtime, memory: int, tell: Callable[[Event], None]) -> None:
        assert isinstance(runtime, TritonRuntime)
        self._runtime = runtime
        self._desk = Desk(runtime, memory, copies=runtime.streams)
        self._tell = tell
        self._waiting: SimpleQueue[Run | Call | None] = SimpleQueue()
        self._held: list[Run | None] = []
        """What came out of it, and is next."""
        self._calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
        self._flows: dict[int, Flow] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, run: Run) -> None:
        """See Jobs."""
        if self._runtime.streams:
            self._flows[run.job] = Flow(lambda message: self._flowed(run, message))
        self._waiting.put(run)

    def cancel(self, job: int, request: int | None = None) -> None:
        """See Jobs; it is for the model to ask."""
        flow, call = self._flows.get(job), self._calls.get(job)
        if flow is not None and request is None:
            flow.cancel()
        elif call is not None:
            call.leave(request)

    def took(self, job: int, parts: int) -> None:
        """See Jobs."""
        flow = self._flows.get(job)
        if flow is not None:
            flow.took(parts)

    def stop(self) -> None:
        """See Jobs."""
        self._waiting.put(None)

    def work(self) -> None:
        """See Jobs."""
        if self._runtime.may_be_unready:
            threading.Thread(target=self._watch, name="inferd-ready", daemon=True).start()
        while (job := self._held.pop() if self._held else self._waiting.get()) is not None:
            if isinstance(job, Call):
                job.fail(BackendError(DROPPED))
            elif self._runtime.streams:
                self._stream(self._together(job))
            else:
                done = self._ran(job)
                if done is not None:
                    tell_end(self._tell, job, noted(done, self._desk.kept(job)))
                else:
                    self._tell(Parked(job.job))
            del job
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    # -- one answer a request ----------------------------------------------------------------------

    def _ran(self, run: Run) -> Done | None:
        """The end of a job, unless it is for a sender to bring about."""
        ended: list[Done] = []
        returned = False
        lock = threading.Lock()

        def over(call: Call) -> None:
            self._left(run)
            try:
                done = call.done(self._desk.outward(run.slot))
            except Exception as error:
                failures = dict.fromkeys(range(len(run.rows)), failure_of(error))
                done = Done(run.job, [], failures, [])
            with lock:
                if not returned:
                    ended.append(done)
                    return
            tell_end(self._tell, run, noted(done, self._desk.kept(run)))

        inputs = self._desk.opened(run).inputs
        call = Call(self._runtime.terms, run, inputs, over, self._waiting.put)
        self._calls[run.job] = call
        self._entered(run)
        requests = call.requests()
        # Requests of a model without batching came together, and are run one after the other.
        for first in range(len(requests)) if run.stacked else (0,):
            some = requests[first : first + 1] if run.stacked else requests
            try:
                self._answer(call, first, some, self._executed(some))
            except BaseException as error:
                failure = self._runtime.failure(error)
                for index in range(first, first + len(some)):
                    call.fail_one(index, failure)
        with lock:
            returned = True
        return ended[0] if ended else None

    def _executed(self, requests: list[InferenceRequest]) -> Any:
        answers = self._runtime.execute(requests)
        if inspect.iscoroutine(answers):
            return asyncio.run_coroutine_threadsafe(answers, self._running_loop()).result()
        return answers

    def _answer(
        self, call: Call, first: int, requests: list[InferenceRequest], responses: Any
    ) -> None:
        if responses is None:
            responses = [None] * len(requests)
        self._runtime.check_list(responses, len(requests))
        if call.answer_all(requests, responses):
            return
        for index, (request, response) in enumerate(zip(requests, responses, strict=True), first):
            if isinstance(response, InferenceResponse) and not request.rescheduled:
                if call.is_open(index):
                    call.answer(index, response)
            elif response is not None:
                raise self._runtime.wrong_response(response, request.rescheduled)
            elif request.rescheduled:
                call.repeat(index)

    # -- any number of answers ---------------------------------------------------------------------

    def _together(self, first: Run) -> list[Run]:
        """The job, and those behind it that may share its `execute`."""
        runs, rows = [first], sum(first.rows)
        while rows < self._runtime.together:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                break
            if isinstance(job, Call):
                job.fail(BackendError(DROPPED))
                continue
            if job is None or not self._runtime.fits(runs, job):
                self._held.append(job)
                break
            runs.append(job)
            rows += sum(job.rows)
        return runs

    def _stream(self, runs: list[Run]) -> None:
        """Run jobs in one `execute`."""
        calls: list[Call] = []
        for run in runs:
            self._entered(run)
            inputs = self._desk.opened(run).inputs
            flow = self._flows[run.job]
            call = StreamedCall(self._runtime.terms, run, inputs, self._waiting.put, flow)
            self._calls[run.job] = call
            calls.append(call)
        requests = [request for call in calls for request in call.requests()]
        try:
            answers = self._runtime.execute(requests)
            if inspect.iscoroutine(answers):
                waits = self._awaited(calls, requests, answers)
                asyncio.run_coroutine_threadsafe(waits, self._running_loop())
            else:
                self._streamed(calls, requests, answers)
        except BaseException as error:
            self._fail(calls, error)

    async def _awaited(
        self, calls: list[Call], requests: list[InferenceRequest],
        answers: Coroutine[Any, Any, Any],
    ) -> None:  # fmt: skip
        try:
            self._streamed(calls, requests, await answers)
        except BaseException as error:
            self._fail(calls, error)

    def _streamed(self, calls: list[Call], requests: list[InferenceRequest], returned: Any) -> None:
        if returned is not None:
            raise self._runtime.wrong_return()
        places = [(call, index) for call in calls for index in range(len(call.run.rows))]
        for (call, index), request in zip(places, requests, strict=True):
            if request.rescheduled:
                call.repeat(index)

    def _fail(self, calls: list[Call], error: BaseException) -> None:
        failure = self._runtime.failure(error)
        for call in calls:
            call.fail(failure)

    def _flowed(self, run: Run, message: Part | Done) -> None:
        if isinstance(message, Part):
            self._tell_part(message)
            return
        del self._flows[run.job]
        self._left(run)
        tell_end(self._tell, run, message)

    def _tell_part(self, part: Part) -> None:
        try:
            self._tell(part)
        except Exception as error:  # a parameter, or an error, that does not cross
            failure = BackendError(f"what the model sent cannot be told: {error}")
            self._tell(Part(part.job, [], None, failure, part.final, part.request))

    # -- both --------------------------------------------------------------------------------------

    def _entered(self, run: Run) -> None:
        for said in run.particulars.values():
            if said.depth:
                self._runtime.towards.entered(said.depth)

    def _left(self, run: Run) -> None:
        for said in run.particulars.values():
            if said.depth:
                self._runtime.towards.left(said.depth)

    def _watch(self) -> None:
        """Ask the model again and again whether it is ready, and tell what has changed."""
        ready, pause = True, threading.Event()
        while True:
            if self._runtime.says_ready() is not ready:
                ready = not ready
                self._tell(Health(ready))
            pause.wait(READY_LOOK_S)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """That of asynchronous models, on a thread of its own: what one starts there goes on."""
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="inferd-loop", daemon=True).start()
        return self._loop
