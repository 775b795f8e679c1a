"""One life of an engine: load, then take commands, step and tell, until told to end or broken.

It runs in a thread of its own or in a process of its own, and refuses to know which.
"""

import logging
from collections.abc import Callable
from queue import SimpleQueue

from inferd.engine.core import EngineCore, SequenceUpdate
from inferd.engine.host.messages import (
    Abort,
    Add,
    Close,
    Command,
    Ended,
    Event,
    Finish,
    Loaded,
    Progress,
    Refused,
    Stepped,
)
from inferd.engine.loading import Choice
from inferd.engine.models.spec import DecoderSpec
from inferd.errors import BackendError, EngineDead, InferdError
from inferd.observability.generation_statistics import EngineGauges

_log = logging.getLogger("inferd.engine")

Load = Callable[[Callable[[int, int], None]], tuple[EngineCore, DecoderSpec, Choice]]
"""Blocks, and is given a function that wants to hear of bytes done and in all."""


class EngineLoop:
    """An engine that is told through `commands` and says what it has to say to `tell`."""

    def __init__(
        self, load: Load, commands: SimpleQueue[Command], tell: Callable[[Event], None]
    ) -> None:
        self._load = load
        self._commands = commands
        self._tell = tell
        self._told = EngineGauges()

    def run(self) -> None:
        """Live; returns at the end and raises nothing."""
        try:
            core, _, choice = self._load(lambda done, total: self._tell(Progress(done, total)))
        except InferdError as error:
            self._tell(Ended(error))
            return
        except BaseException as error:  # libraries in Rust panic with no Exception
            _log.exception("loading raised")
            self._tell(Ended(BackendError(f"the model could not be loaded: {_said(error)}")))
            return
        self._tell(Loaded(core.scheduler.max_len, choice.why))
        try:
            self._serve(core)
        except BaseException as error:
            _log.exception("the engine raised")
            self._tell(Ended(EngineDead(f"the engine ended: {_said(error)}")))
        finally:
            core.runner.close()

    def _serve(self, core: EngineCore) -> None:
        commands = self._commands
        while True:
            while not (core.has_work and commands.empty()):
                if commands.empty():
                    self._tell_stepped(core, [])  # it sleeps now: let nobody think that it works
                command = commands.get()
                if isinstance(command, Close):
                    return
                self._obey(core, command)
            self._tell_stepped(core, core.step())

    def _obey(self, core: EngineCore, command: Add | Abort | Finish) -> None:
        match command:
            case Add(request):
                try:
                    core.add(request)
                except InferdError as error:
                    self._tell(Refused(request.id, error))
            case Abort(request_id):
                core.abort(request_id)
            case Finish(sequence_id):
                core.finish(sequence_id)

    def _tell_stepped(self, core: EngineCore, updates: list[SequenceUpdate]) -> None:
        gauges = _gauges(core)
        if updates or gauges != self._told:
            self._told = gauges
            self._tell(Stepped(updates, gauges))


def _gauges(core: EngineCore) -> EngineGauges:
    scheduler, cache = core.scheduler, core.kv_cache
    return EngineGauges(
        running=len(scheduler.running), waiting=len(scheduler.waiting),
        kv_usage=cache.usage, kv_waste=cache.waste, prefix_queries=cache.queries,
        prefix_hits=cache.hits, preemptions=scheduler.num_preemptions,
    )  # fmt: skip


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
