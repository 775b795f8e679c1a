"""Everything of the Open Inference Protocol but inference, as ordinary ASGI routes: health,
metadata, configuration, statistics, repository, settings. Routes only translate; the planes answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.protocols.depth import check_depth
from inferd.protocols.http.errors import STATUS_OF, error_body, error_headers
from inferd.protocols.oip.log_settings import changed_log_settings, log_settings
from inferd.protocols.oip.metadata import model_metadata, server_metadata
from inferd.protocols.oip.model_config import model_config
from inferd.protocols.oip.repository import (
    index_line,
    load_override,
    no_repository_name,
    unload_dependents,
)
from inferd.protocols.oip.shared_memory import (
    NO_CUDA,
    check_no_cuda_region,
    region_line,
)
from inferd.protocols.oip.statistics import statistics
from inferd.protocols.oip.trace_settings import as_lists, trace_changes, trace_settings
from inferd.schemas.oip import (
    LoadRequest,
    RegisterRequest,
    RepositoryIndexRequest,
    UnloadRequest,
)
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane

Endpoint = Callable[[Request], Awaitable[Response]]


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def error_response(error: InferdError) -> Response:
    """An error in the protocol's shape."""
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(
        error_body(str(error)), STATUS_OF[error.code], headers, media_type="application/json"
    )


class OipRoutes:
    """The endpoints; path parameters arrive unquoted."""

    def __init__(self, data: DataPlane, control: ControlPlane) -> None:
        self._data = data
        self._control = control

    def routes(self) -> list[Route]:
        """Every route but inference."""
        gets: dict[str, Endpoint] = {
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/stats": self.statistics,
            "/v2/logging": self.log_settings,
            "/v2/trace/setting": self.trace_settings,
            "/v2/models/{model}/trace/setting": self.trace_settings,
            "/v2/systemsharedmemory/status": self.regions,
            "/v2/systemsharedmemory/region/{region}/status": self.regions,
            "/v2/cudasharedmemory/status": self.cuda_regions,
            "/v2/cudasharedmemory/region/{region}/status": self.cuda_regions,
        }
        for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            gets[prefix] = self.model
            gets[f"{prefix}/ready"] = self.model_ready
            gets[f"{prefix}/config"] = self.config
            gets[f"{prefix}/stats"] = self.statistics
        posts: dict[str, Endpoint] = {
            "/v2/repository/index": self.index,
            "/v2/repository/models/{model}/load": self.load,
            "/v2/repository/models/{model}/unload": self.unload,
            "/v2/repository/{repository}/index": self.named_repository,
            "/v2/repository/{repository}/models/{model}/load": self.named_repository,
            "/v2/repository/{repository}/models/{model}/unload": self.named_repository,
            "/v2/logging": self.set_log_settings,
            "/v2/trace/setting": self.change_trace,
            "/v2/models/{model}/trace/setting": self.change_trace,
            "/v2/systemsharedmemory/unregister": self.unregister_region,
            "/v2/systemsharedmemory/region/{region}/register": self.register_region,
            "/v2/systemsharedmemory/region/{region}/unregister": self.unregister_region,
            "/v2/cudasharedmemory/unregister": self.unregister_cuda_region,
            "/v2/cudasharedmemory/region/{region}/register": self.register_cuda_region,
            "/v2/cudasharedmemory/region/{region}/unregister": self.unregister_cuda_region,
        }
        return [
            *[Route(path, _translating(e), methods=["GET"]) for path, e in gets.items()],
            *[Route(path, _translating(e), methods=["POST"]) for path, e in posts.items()],
        ]

    # -- health and metadata -------------------------------------------------------------------

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        shared = self._data.shared_memory.on
        return json_response(server_metadata(*self._data.server_metadata(), shared))

    async def live(self, request: Request) -> Response:
        """200 while the process answers; 503 on the way out."""
        live = self._data.live()
        return json_response({"live": live}, 200 if live else 503)

    async def ready(self, request: Request) -> Response:
        """200 when requests should be sent here; 400 when not yet, 503 on the way out."""
        ready = self._data.ready()
        body = {"ready": ready, "live": self._data.live()}
        return json_response(body, 200 if ready else 400 if self._data.live() else 503)

    async def model(self, request: Request) -> Response:
        """Model metadata."""
        return json_response(model_metadata(self._data.metadata(*_model(request))))

    async def model_ready(self, request: Request) -> Response:
        """200 when the model answers, else 400."""
        name, version = _model(request)
        ready = self._data.model_ready(name, version)
        return json_response({"name": name, "ready": ready}, 200 if ready else 400)

    async def config(self, request: Request) -> Response:
        """The model's configuration in force."""
        return json_response(model_config(self._data.served(*_model(request))))

    async def statistics(self, request: Request) -> Response:
        """Statistics of one model or of all."""
        return json_response(statistics(self._control, *_model(request)))

    # -- repository ----------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """Every model with its state."""
        body = await _body(request, RepositoryIndexRequest)
        found = await self._control.index(body.ready)
        return json_response([index_line(status) for status in found])

    async def load(self, request: Request) -> Response:
        """Load a model and wait until it is ready."""
        body = await _body(request, LoadRequest)
        # What files there are is large, and decoded beside the loop.
        override = await asyncio.to_thread(load_override, body.parameters)
        await self._control.load(request.path_params["model"], *override)
        return Response(b"", 200, media_type="application/json")

    async def unload(self, request: Request) -> Response:
        """Stop serving a model; what is in flight is still answered."""
        body = await _body(request, UnloadRequest)
        dependents = unload_dependents(body.parameters)
        await self._control.unload(request.path_params["model"], dependents)
        return Response(b"", 200, media_type="application/json")

    async def named_repository(self, request: Request) -> Response:
        """Triton's paths with a repository name."""
        raise no_repository_name()

    # -- settings ------------------------------------------------------------------------------

    async def trace_settings(self, request: Request) -> Response:
        """Which requests are traced, of a model or of all."""
        name, _ = _model(request)
        tracing = self._control.tracing(name)
        settings = trace_settings(tracing.settings(name), tracing.file)
        return json_response(
            {key: values if key == "trace_level" else values[0] for key, values in settings.items()}
        )

    async def change_trace(self, request: Request) -> Response:
        """Trace others from now on; all settings are the answer."""
        name, _ = _model(request)
        tracing = self._control.tracing(name)
        wire = as_lists(await _body(request, dict))
        tracing.change(trace_changes(wire, tracing.file), name)
        return await self.trace_settings(request)

    async def log_settings(self, request: Request) -> Response:
        """Which severities are logged."""
        return json_response(log_settings(self._control.log_settings()))

    async def set_log_settings(self, request: Request) -> Response:
        """Log others from now on; all settings are the answer."""
        wire = await _body(request, dict)
        changed = changed_log_settings(self._control.log_settings(), wire)
        self._control.set_log_settings(changed)
        return json_response(log_settings(changed))

    # -- shared memory -------------------------------------------------------------------------

    async def regions(self, request: Request) -> Response:
        """One registered region, or all."""
        regions = self._data.shared_memory.regions(_region(request))
        return json_response([region_line(region) for region in regions])

    async def register_region(self, request: Request) -> Response:
        """Let requests name a region."""
        body = await _body(request, RegisterRequest)
        self._data.shared_memory.register(_region(request), body.key, body.offset, body.byte_size)
        return Response(b"", 200, media_type="application/json")

    async def unregister_region(self, request: Request) -> Response:
        """Forget a region, or all; what is in flight still has it."""
        self._data.shared_memory.unregister(_region(request))
        return Response(b"", 200, media_type="application/json")

    async def cuda_regions(self, request: Request) -> Response:
        """Nothing, since nothing can be registered."""
        check_no_cuda_region(_region(request))
        return json_response([])

    async def unregister_cuda_region(self, request: Request) -> Response:
        """Nothing to do: clients call it before they begin, whatever they use."""
        return Response(b"", 200, media_type="application/json")

    async def register_cuda_region(self, request: Request) -> Response:
        """Triton's path for the memory of GPUs."""
        raise Unsupported(NO_CUDA)


def _translating(endpoint: Endpoint) -> Endpoint:
    async def translated(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InferdError as error:
            return error_response(error)

    translated.__doc__ = endpoint.__doc__
    translated.__name__ = getattr(endpoint, "__name__", "endpoint")
    return translated


def _model(request: Request) -> tuple[str, str]:
    return request.path_params.get("model", ""), request.path_params.get("version", "")


def _region(request: Request) -> str:
    return str(request.path_params.get("region", ""))


async def _body(request: Request, kind: type[Any]) -> Any:
    data = await request.body()
    if not data.strip():
        return kind()
    if data.count(b"[") + data.count(b"{") > 100:
        check_depth(data)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {error}") from error
