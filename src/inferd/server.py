"""The composition root: from a configuration to a running server, in order, and back down again.

Start: the core, listeners (so that probes are answered), models, announcement. Stop: unready at
once, ask clients to leave, refuse new work, finish what is in flight, close connections, close
models.
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from inferd.config.server import ServerConfig
from inferd.core import Core
from inferd.equipment import log_file, log_settings, server_tls
from inferd.errors import ConfigError
from inferd.observability.logging import configure_logging
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
from inferd.protocols.websocket.route import WebSocketRoute
from inferd.serving.served_llm import LoadProgress
from inferd.types.model import ModelStatus
from inferd.types.tensor import TensorSpec

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

    server = NetworkServer(config, progress)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(server.serve(announce))
        if server.abandoned_work:
            # A framework's run or load cannot be interrupted, and Python would wait for it.
            logging.shutdown()
            os._exit(status)
    return status


class NetworkServer:
    """A core, the listeners around it, and their life."""

    def __init__(self, config: ServerConfig, progress: LoadProgress | None = None) -> None:
        if not (config.http or config.grpc):
            raise ConfigError("neither HTTP nor gRPC is to be served", field="http")
        self._config = config
        self.core = core = Core(config, progress)
        most = config.http_max_input_size
        direct = (
            InferRoute(core.data, most),
            CallRoute(core.data, most),
            GenerationRoute(core.data, most),
            GenerateRoute(core.data, most),
            WebSocketRoute(core.data, most),
        )
        metrics = self._render_metrics if config.metrics else None
        app = create_app(core.data, core.control, metrics, most)
        core.manager.mounts.reserve(own_paths(app))
        limits = HttpLimits(
            max_body_bytes=config.http_max_input_size,
            head_timeout_s=config.http_header_timeout_secs,
            body_timeout_s=config.http_body_timeout_secs,
            keep_alive_s=config.http_keep_alive_secs,
        )
        self.listener = HttpListener(
            RequestRouter(app, *direct, mounts=MountRoute(core.data)), limits, config.access_log
        )
        self.metrics: HttpListener | None = None
        if metrics is not None and config.metrics_port is not None:
            self.metrics = HttpListener(RequestRouter(metrics_app(metrics)), limits)
        self.calls = GrpcRouter(
            methods(core.data, core.control),
            {MODEL_INFER: GrpcInferRoute(core.data)},
            config.grpc_max_input_size,
            config.access_log,
        )
        self.grpc = self._grpc_listener() if config.grpc else None

    @property
    def abandoned_work(self) -> bool:
        """Whether threads are left behind that will not end in time."""
        return self.core.abandoned_work

    async def serve(self, announce: Announce) -> int:
        """Start, serve until told to stop, stop."""
        core = self.core
        warning = core.data.shared_memory.warning()
        if warning:
            _log.warning(warning)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, core.stop.set)
        url = await self._listen()
        calls = await self._listen_for_calls(url)
        metrics = await self._listen_for_metrics() or url
        try:
            if not await core.start():
                return 0
            gc.freeze()
            llms = frozenset(llm.name for llm in core.manager.served_llms())
            where = f"{metrics}/metrics" if metrics and self._config.metrics else ""
            announce(Announcement(url, tuple(self._models()), llms, calls, where))
            await core.stop.wait()
            return await self._shut_down()
        finally:
            await self.listener.stop()
            if self.metrics is not None:
                await self.metrics.stop()
            if self.grpc is not None:
                await self.grpc.stop()
            await core.end()

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

    def _models(
        self,
    ) -> Iterator[tuple[ModelStatus, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
        served = {(m.name, m.version): m for m in self.core.manager.loaded()}
        for status in self.core.control.known_index():
            model = served.get((status.name, status.version))
            inputs, outputs = (model.inputs, model.outputs) if model else ((), ())
            yield status, inputs, outputs

    async def _shut_down(self) -> int:
        """0 when everything in flight was answered in time, else 1."""
        self.core.data.leaving = True
        self.listener.drain()
        if self.grpc is not None:
            self.grpc.drain()
        done = await self.core.shut_down(self._told, self._idle)
        return 0 if done else 1

    async def _told(self) -> None:
        if self.grpc is not None:
            await self.grpc.told()

    async def _idle(self) -> None:
        self.calls.leave()
        await self.listener.idle()
        if self.grpc is not None:
            await self.grpc.idle()

    def _render_metrics(self) -> bytes:
        return self.core.render_metrics(lambda: self.listener.responses, lambda: self.calls.calls)


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
