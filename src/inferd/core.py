"""The core of a server: its planes, and the life of its models. What has sockets (`server.py`) and
what is used from within a process (`embedded/`) stand around one each.

It refuses to know by which way requests come.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inferd.caching.local import CacheUsage
from inferd.config.backend_config import read_backend_config
from inferd.config.server import ServerConfig
from inferd.config.trace_config import read_trace_config
from inferd.equipment import cache, rate_limiter, trace_file
from inferd.errors import ConfigError
from inferd.observability.machine import available_cores, gpu_count
from inferd.observability.tracing import Tracing
from inferd.processes.heap import keep_freed_memory, trim_memory
from inferd.protocols.oip.trace_settings import trace_changes
from inferd.repository.layout import Reading
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_llm import LoadProgress
from inferd.serving.shared_memory import SharedMemory

if TYPE_CHECKING:
    from inferd.observability.metrics import MetricsRegistry

_log = logging.getLogger("inferd.server")

Step = Callable[[], Awaitable[object]]
Responses = Callable[[], dict[int, int]]
Calls = Callable[[], dict[tuple[str, str], int]]


async def _nothing() -> None:
    """A step of a server that has none there."""


class Core:
    """Everything of one server but its ways in. All calls on the loop's thread."""

    def __init__(self, config: ServerConfig, progress: LoadProgress | None = None) -> None:
        if not config.paths:
            raise ConfigError("nothing to serve; try: inferd serve model.onnx", field="paths")
        self.config = config
        cores = config.threads or available_cores()
        engine = dict(config.engine)
        if config.threads:
            engine["threads"] = config.threads
        traced = read_trace_config(config.trace_config)
        backends = read_backend_config(config.backend_config)
        for said in (*traced.ignored, *backends.ignored):
            _log.warning("a setting changes nothing here: %s", said)
        self._traces = trace_file(traced.file or config.trace_file)
        tracing = Tracing(self._traces)
        tracing.change(trace_changes(traced.settings, tracing.file))
        self.manager = ModelManager(
            tuple(Path(path) for path in config.paths), cores, config.model_load_thread_count,
            engine, progress, config.trust, tracing,
            Reading(config.model_config_name, config.auto_complete_config), backends,
            config.model_load_retry_count, rate_limiter(config), cache(config), gpu_count(),
        )  # fmt: skip
        shared_memory = SharedMemory(config.shared_memory == "system")
        self.data = DataPlane(self.manager, config.strict_readiness, shared_memory, config.id)
        self.control = ControlPlane(self.manager, config)
        self.stop = asyncio.Event()
        """Set by whoever tells the server to stop."""
        self.abandoned_work = False
        """Whether threads are left behind that will not end in time."""
        self._poller: asyncio.Task[None] | None = None
        self._metrics: MetricsRegistry | None = None

    # -- up ------------------------------------------------------------------------------------

    async def start(self) -> bool:
        """Load what should be served at start, and follow the repository from then on; False when
        told to stop before that is done.

        Raises ConfigError where nothing can be served.
        """
        keep_freed_memory()
        np.seterr(over="ignore")  # a number too large for its datatype becomes infinite, silently
        if not await self._load_models():
            return False
        self._refuse_to_serve_nothing()
        self.data.started = True
        trim_memory()
        self._poller = asyncio.get_running_loop().create_task(self.control.poll())
        return True

    async def _load_models(self) -> bool:
        loop = asyncio.get_running_loop()
        loading = loop.create_task(self.control.start())
        stopping = loop.create_task(self.stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            stopping.cancel()
            loading.result()
            return True
        _log.info("told to stop while models were loading")
        self.data.draining = self.abandoned_work = True
        return False

    def _refuse_to_serve_nothing(self) -> None:
        failed = [status for status in self.manager.index() if status.reason]
        nothing = not self.manager.default and self.config.model_control_mode == "none"
        if failed and (self.config.exit_on_error or nothing):
            reasons = "\n".join(f"  {status.name}: {status.reason}" for status in failed)
            raise ConfigError(f"no server without its models:\n{reasons}")
        if nothing:
            raise ConfigError(
                f"no models in {', '.join(self.config.paths)}; expected files such as .onnx or "
                ".skops, <model>/<version>/model.onnx, or a folder of MLflow, Hugging Face or "
                "TensorFlow"
            )

    # -- meanwhile -----------------------------------------------------------------------------

    def in_flight(self) -> int:
        """Requests accepted and not answered."""
        return sum(model.in_flight() for model in self.manager.loaded())

    def render_metrics(self, responses: Responses = dict, calls: Calls = dict) -> bytes:
        """All metrics as Prometheus reads them; HTTP answers by status and gRPC calls by method and
        status are those of the ways in."""
        if self._metrics is None:
            # Imported at the first scrape: most of a small server's start would be this.
            from inferd.observability.metrics import MetricsRegistry

            self._metrics = MetricsRegistry(
                self.manager.served_models, self.manager.served_llms, responses, calls,
                self._cache_usage, self.manager.asks.metrics,
            )  # fmt: skip
        return self._metrics.render()

    def _cache_usage(self) -> CacheUsage | None:
        return self.manager.cache.usage if self.manager.cache is not None else None

    # -- down ----------------------------------------------------------------------------------

    async def shut_down(self, told: Step = _nothing, idle: Step = _nothing) -> bool:
        """Refuse new work, finish what is in flight, close the models; whether all of it was done
        within `exit_timeout_secs`.

        `told` is awaited before work is refused: clients go elsewhere by then; `idle` when nothing
        is in flight any more: what was answered has left by then.
        """
        _log.info("shutting down", extra={"in_flight": self.in_flight()})
        try:
            async with asyncio.timeout(self.config.exit_timeout_secs):
                await told()
                await self._follow_no_more()  # or it would load again what is closed
                self.data.draining = True
                await self.manager.drain()
                await idle()
                await self.manager.close()
        except TimeoutError:
            self.abandoned_work = True
            _log.error(
                "requests were still in flight when --exit-timeout-secs passed",
                extra={"in_flight": self.in_flight(), "seconds": self.config.exit_timeout_secs},
            )
            return False
        _log.info("stopped")
        return True

    async def end(self) -> None:
        """Stop following the repository, and write the traces that wait; whatever went before."""
        await self._follow_no_more()
        self.manager.sent.remove()
        if self._traces is not None:
            self.manager.tracing.flush()
            await asyncio.to_thread(self._traces.close)

    async def _follow_no_more(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait((self._poller,))
