"""The composition root: from a configuration to a running server, in order, and back down again.

Start: planes, listeners (so that probes are answered), models, announcement. Stop: unready at once,
ask clients to leave, refuse new work, finish what is in flight, close connections, close models.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inferd.caching.local import CacheUsage
from inferd.config.backend_config import read_backend_config
from inferd.config.server import ServerConfig
from inferd.config.trace_config import read_trace_config
from inferd.equipment import (
    cache,
    log_file,
    log_settings,
    rate_limiter,
    server_tls,
    trace_file,
)
from inferd.errors import ConfigError
from inferd.observability.logging import configure_logging
from inferd.observability.machine import available_cores
from inferd.observability.tracing import Tracing
from inferd.processes.heap import keep_freed_memory, trim_memory
from inferd.protocols.grpc.infer_call import InferRoute as GrpcInferRoute
from inferd.protocols.grpc.inference.service import MODEL_INFER
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.grpc.services import methods
from inferd.protocols.http.app import RequestRouter, create_app, metrics_app, own_paths
from inferd.protocols.http.call.route import CallRoute
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.mounts import MountRoute
from inferd.protocols.http.oip.generate import GenerateRoute
from inferd.protocols.http.oip.infer import InferRoute
from inferd.protocols.http.openai.routes import GenerationRoute
from inferd.protocols.http.reader import HttpLimits
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.listener import Http2Listener
from inferd.protocols.oip.trace_settings import trace_changes
from inferd.protocols.websocket.route import WebSocketRoute
from inferd.repository.layout import Reading
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_llm import LoadProgress
from inferd.serving.shared_memory import SharedMemory
from inferd.types.model import ModelStatus
from inferd.types.tensor import TensorSpec

if TYPE_CHECKING:
    from inferd.observability.metrics import MetricsRegistry

_log = logging.getLogger("inferd.server")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is served and where, once it is: for whoever tells the user."""

    url: str
    """Empty without HTTP."""
    models: tuple[tuple[ModelStatus, tuple[TensorSpec, ...], tuple[TensorSpec, ...]], ...]
    llms: frozenset[str] = frozenset()
    """Which of them are language models."""
    grpc: str = ""
    """Host and port of the gRPC front end; empty without one."""
    metrics: str = ""
    """Where the metrics are; empty where they are not served."""


Announce = Callable[[Announcement], None]


def run(
    config: ServerConfig, announce: Announce, progress: LoadProgress | None = None,
    ignored: Iterable[str] = (),
) -> int:  # fmt: skip
    """Serve until SIGTERM or SIGINT; returns the exit status. Raises ConfigError, OSError.

    `progress` is told, from other threads, how far the loading of language models is. `ignored` is
    what was said in vain, and why, for the log.
    """
    configure_logging(config.log_format, log_settings(config), log_file(config))
    for said in ignored:
        _log.warning("an option changes nothing here: %s", said)
    import uvloop  # here, so that importing the module stays cheap for the command line

    server = Server(config, progress)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(server.serve(announce))
        if server.abandoned_work:
            # A framework's run or load cannot be interrupted, and Python would wait for it.
            logging.shutdown()
            os._exit(status)
    return status


class Server:
    """One server: its planes, its listener, its life."""

    def __init__(self, config: ServerConfig, progress: LoadProgress | None = None) -> None:
        if not config.paths:
            raise ConfigError("nothing to serve; try: inferd serve model.onnx", field="paths")
        if not (config.http or config.grpc):
            raise ConfigError("neither HTTP nor gRPC is to be served", field="http")
        self._config = config
        cores = config.threads or available_cores()
        paths = tuple(Path(path) for path in config.paths)
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
            paths, cores, config.model_load_thread_count, engine, progress, config.trust, tracing,
            Reading(config.model_config_name, config.auto_complete_config), backends,
            config.model_load_retry_count, rate_limiter(config), cache(config),
        )  # fmt: skip
        shared_memory = SharedMemory(config.shared_memory == "system")
        self.data = DataPlane(self.manager, config.strict_readiness, shared_memory, config.id)
        self.control = ControlPlane(self.manager, config)
        most = config.http_max_input_size
        direct = (
            InferRoute(self.data, most),
            CallRoute(self.data, most),
            GenerationRoute(self.data, most),
            GenerateRoute(self.data, most),
            WebSocketRoute(self.data, most),
        )
        metrics = self._render_metrics if config.metrics else None
        app = create_app(self.data, self.control, metrics, most)
        self.manager.mounts.reserve(own_paths(app))
        limits = HttpLimits(
            max_body_bytes=config.http_max_input_size,
            head_timeout_s=config.http_header_timeout_secs,
            body_timeout_s=config.http_body_timeout_secs,
            keep_alive_s=config.http_keep_alive_secs,
        )
        self.listener = HttpListener(
            RequestRouter(app, *direct, mounts=MountRoute(self.data)), limits, config.access_log
        )
        self.metrics: HttpListener | None = None
        if metrics is not None and config.metrics_port is not None:
            self.metrics = HttpListener(RequestRouter(metrics_app(metrics)), limits)
        self.calls = GrpcRouter(
            methods(self.data, self.control),
            {MODEL_INFER: GrpcInferRoute(self.data)},
            config.grpc_max_input_size,
            config.access_log,
        )
        self.grpc = self._grpc_listener() if config.grpc else None
        self._stop = asyncio.Event()
        self.abandoned_work = False
        """Whether threads are left behind that will not end in time."""
        self._metrics: MetricsRegistry | None = None

    async def serve(self, announce: Announce) -> int:
        """Start, serve until told to stop, stop."""
        keep_freed_memory()
        warning = self.data.shared_memory.warning()
        if warning:
            _log.warning(warning)
        np.seterr(over="ignore")  # a number too large for its datatype becomes infinite, silently
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        url = await self._listen()
        calls = await self._listen_for_calls(url)
        metrics = await self._listen_for_metrics() or url
        poller = None
        try:
            if not await self._load_models():
                return 0
            self._refuse_to_serve_nothing()
            self.data.started = True
            trim_memory()
            gc.freeze()
            llms = frozenset(llm.name for llm in self.manager.served_llms())
            where = f"{metrics}/metrics" if metrics and self._config.metrics else ""
            announce(Announcement(url, tuple(self._models()), llms, calls, where))
            poller = loop.create_task(self.control.poll())
            await self._stop.wait()
            return await self._shut_down()
        finally:
            if poller is not None:
                poller.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await poller
            await self.listener.stop()
            if self.metrics is not None:
                await self.metrics.stop()
            if self.grpc is not None:
                await self.grpc.stop()
            self.manager.sent.remove()
            if self._traces is not None:
                self.manager.tracing.flush()
                await asyncio.to_thread(self._traces.close)

    async def _load_models(self) -> bool:
        """Load what should be served at start; False when told to stop before that is done."""
        loop = asyncio.get_running_loop()
        loading = loop.create_task(self.control.start())
        stopping = loop.create_task(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            stopping.cancel()
            loading.result()
            return True
        _log.info("told to stop while models were loading")
        self.data.draining = self.abandoned_work = True
        return False

    async def _listen(self) -> str:
        """The address of HTTP; empty without."""
        if not self._config.http:
            return ""
        host = self._config.http_address or self._config.host
        return await _start(self.listener, host, self._config.http_port, "http_port")

    async def _listen_for_metrics(self) -> str:
        """The address of the metrics' own port; empty without."""
        config = self._config
        if self.metrics is None or config.metrics_port is None:
            return ""
        host = config.metrics_address or config.http_address or config.host
        return await _start(self.metrics, host, config.metrics_port, "metrics_port")

    async def _listen_for_calls(self, http: str) -> str:
        """Host and port of gRPC; empty without."""
        if self.grpc is None:
            return ""
        config = self._config
        wanted = config.grpc_port
        if wanted is None:
            wanted = config.http_port + 1 if 0 < config.http_port < 65535 else 0
        if http:
            self.grpc.elsewhere = f"HTTP/1.1 is served on port {http.rpartition(':')[2]}"
        host = config.grpc_address or config.host
        try:
            bound, port = await self.grpc.start(host, wanted)
        except OSError as error:
            raise _cannot_listen(host, wanted, "grpc_port", error) from error
        return f"{_shown(bound)}:{port}"

    def _grpc_listener(self) -> Http2Listener:
        config = self._config
        limits = Http2Limits(
            max_concurrent_streams=config.grpc_max_concurrent_streams,
            keep_alive_s=config.grpc_keepalive_secs,
            keep_alive_timeout_s=config.grpc_keepalive_timeout_secs,
            min_ping_interval_s=config.grpc_min_ping_interval_secs,
            max_ping_strikes=config.grpc_max_ping_strikes,
            max_age_s=config.grpc_max_connection_age_secs,
            max_age_grace_s=config.grpc_max_connection_age_grace_secs,
        )
        return Http2Listener(self.calls, limits, server_tls(config))

    def _refuse_to_serve_nothing(self) -> None:
        failed = [status for status in self.manager.index() if status.reason]
        nothing = not self.manager.default and self._config.model_control_mode == "none"
        if failed and (self._config.exit_on_error or nothing):
            reasons = "\n".join(f"  {status.name}: {status.reason}" for status in failed)
            raise ConfigError(f"no server without its models:\n{reasons}")
        if nothing:
            raise ConfigError(
                f"no models in {', '.join(self._config.paths)}; expected files such as .onnx or "
                ".skops, <model>/<version>/model.onnx, or a folder of MLflow, Hugging Face or "
                "TensorFlow"
            )

    def _models(
        self,
    ) -> Iterator[tuple[ModelStatus, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
        served = {(m.name, m.version): m for m in self.manager.loaded()}
        for status in self.control.index():
            model = served.get((status.name, status.version))
            inputs, outputs = (model.inputs, model.outputs) if model else ((), ())
            yield status, inputs, outputs

    async def _shut_down(self) -> int:
        """0 when everything in flight was answered in time, else 1."""
        config = self._config
        _log.info("shutting down", extra={"in_flight": self._in_flight()})
        self.data.leaving = True
        self.listener.drain()
        if self.grpc is not None:
            self.grpc.drain()
        try:
            async with asyncio.timeout(config.exit_timeout_secs):
                if self.grpc is not None:
                    await self.grpc.told()
                self.data.draining = True
                await self.manager.drain()
                self.calls.leave()
                await self.listener.idle()
                if self.grpc is not None:
                    await self.grpc.idle()
                await self.manager.close()
        except TimeoutError:
            self.abandoned_work = True
            _log.error(
                "requests were still in flight when --exit-timeout-secs passed",
                extra={"in_flight": self._in_flight(), "seconds": config.exit_timeout_secs},
            )
            return 1
        _log.info("stopped")
        return 0

    def _in_flight(self) -> int:
        return sum(model.in_flight() for model in self.manager.loaded())

    def _render_metrics(self) -> bytes:
        if self._metrics is None:
            # Imported at the first scrape: most of a small server's start would be this.
            from inferd.observability.metrics import MetricsRegistry

            self._metrics = MetricsRegistry(
                self.manager.served_models, self.manager.served_llms,
                lambda: self.listener.responses, lambda: self.calls.calls, self._cache_usage,
            )  # fmt: skip
        return self._metrics.render()

    def _cache_usage(self) -> CacheUsage | None:
        return self.manager.cache.usage if self.manager.cache is not None else None


async def _start(listener: HttpListener, host: str, port: int, field: str) -> str:
    """The address of a listener; raises ConfigError where it cannot listen."""
    try:
        bound, port = await listener.start(host, port)
    except OSError as error:
        raise _cannot_listen(host, port, field, error) from error
    return f"http://{_shown(bound)}:{port}"


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _cannot_listen(host: str, port: int, field: str, error: OSError) -> ConfigError:
    option = field.replace("_", "-")
    without = ", or do without gRPC: --no-grpc" if field == "grpc_port" else ""
    return ConfigError(
        f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with "
        f"--{option} (0 takes a free one){without}",
        field=field,
    )
