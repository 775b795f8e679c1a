"""The calls of `inference.GRPCInferenceService`. Handlers only translate; the planes answer."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import ParseDict

from inferd.errors import InvalidRequest, ModelNotFound, OnlyStreams, Unsupported
from inferd.protocols.grpc.inference.response_codec import Encoded, encode_infer, not_by_infer
from inferd.protocols.grpc.inference.stream import InferStream, decode_apart
from inferd.protocols.grpc.methods import Buffer, CallContext, Method, Requests
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
from inferd.protocols.oip.trace_settings import trace_changes, trace_settings
from inferd.schemas.pb.messages import Message, message_class
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane

SERVICE = "inference.GRPCInferenceService"

MODEL_INFER = f"/{SERVICE}/ModelInfer"

NOT_OFFERED = {"CudaSharedMemoryRegister": NO_CUDA}
"""Triton's calls that are known, and what is said to them."""


class InferenceService:
    """The service over the two planes."""

    def __init__(self, data: DataPlane, control: ControlPlane) -> None:
        self._data = data
        self._control = control

    def methods(self) -> tuple[Method, ...]:
        """Every call."""
        unary = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
            "TraceSetting": self.trace_setting,
            "LogSettings": self.log_settings,
            "SystemSharedMemoryStatus": self.shared_memory,
            "SystemSharedMemoryRegister": self.register_shared_memory,
            "SystemSharedMemoryUnregister": self.unregister_shared_memory,
            "CudaSharedMemoryStatus": self.cuda_shared_memory,
            "CudaSharedMemoryUnregister": self.unregister_cuda_shared_memory,
        }
        return (
            Method(MODEL_INFER, "unary", self.infer),
            Method(f"/{SERVICE}/ModelStreamInfer", "bidi", self.stream_infer),
            *[
                Method(f"/{SERVICE}/{name}", "unary", handler, _class(f"{name}Request"))
                for name, handler in unary.items()
            ],
            *[
                Method(f"/{SERVICE}/{name}", "unary", _not_offered(f"{name}: {why}"))
                for name, why in NOT_OFFERED.items()
            ],
        )

    # -- inference -----------------------------------------------------------------------------

    async def infer(self, data: Buffer, context: CallContext) -> Encoded:
        """ModelInfer, for callers that can wait; large typed contents are read on a thread."""
        request, _ = await decode_apart(data, self._data)
        request.deadline_ns = context.deadline_ns
        try:
            return encode_infer(await self._data.infer(request))
        except OnlyStreams as error:
            raise not_by_infer() from error

    def stream_infer(self, requests: Requests, context: CallContext) -> AsyncIterator[Encoded]:
        """ModelStreamInfer."""
        return InferStream(self._data, context).answers(requests)

    # -- health and metadata -------------------------------------------------------------------

    async def server_live(self, request: Message, context: CallContext) -> Message:
        """Whether the process answers and is not on its way out."""
        return _class("ServerLiveResponse")(live=self._data.live())

    async def server_ready(self, request: Message, context: CallContext) -> Message:
        """Whether requests should be sent here."""
        return _class("ServerReadyResponse")(ready=self._data.ready())

    async def model_ready(self, request: Message, context: CallContext) -> Message:
        """Whether a model answers; as of Triton's, one that does not exist is not ready."""
        try:
            ready = self._data.model_ready(request.name, request.version)
        except ModelNotFound:
            ready = False
        return _class("ModelReadyResponse")(ready=ready)

    async def server_metadata(self, request: Message, context: CallContext) -> Message:
        """Server metadata."""
        shared = self._data.shared_memory.on
        found = server_metadata(*self._data.server_metadata(), shared)
        return _message("ServerMetadataResponse", found)

    async def model_metadata(self, request: Message, context: CallContext) -> Message:
        """Model metadata."""
        metadata = self._data.metadata(request.name, request.version)
        return _message("ModelMetadataResponse", model_metadata(metadata))

    async def model_config(self, request: Message, context: CallContext) -> Message:
        """The model's configuration in force."""
        config = model_config(self._data.served(request.name, request.version))
        return _message("ModelConfigResponse", {"config": config})

    async def model_statistics(self, request: Message, context: CallContext) -> Message:
        """Statistics of one model or of all."""
        found = statistics(self._control, request.name, request.version)
        return _message("ModelStatisticsResponse", found)

    # -- repository ----------------------------------------------------------------------------

    async def index(self, request: Message, context: CallContext) -> Message:
        """Every model with its state."""
        _check_repository(request)
        lines = [index_line(status) for status in await self._control.index(request.ready)]
        return _message("RepositoryIndexResponse", {"models": lines})

    async def load(self, request: Message, context: CallContext) -> Message:
        """Load a model and wait until it is ready."""
        _check_repository(request)
        override = load_override(_values(request.parameters, "load parameter"))
        await self._control.load(request.model_name, *override)
        return _class("RepositoryModelLoadResponse")()

    async def unload(self, request: Message, context: CallContext) -> Message:
        """Stop serving a model; what is in flight is still answered."""
        _check_repository(request)
        dependents = unload_dependents(_values(request.parameters, "unload parameter"))
        await self._control.unload(request.model_name, dependents)
        return _class("RepositoryModelUnloadResponse")()

    # -- settings ------------------------------------------------------------------------------

    async def trace_setting(self, request: Message, context: CallContext) -> Message:
        """Which requests are traced, of a model or of all; all settings are the answer."""
        name = request.model_name
        tracing = self._control.tracing(name)
        wire = {setting: list(value.value) for setting, value in request.settings.items()}
        tracing.change(trace_changes(wire, tracing.file), name)
        answer = _class("TraceSettingResponse")()
        for setting, values in trace_settings(tracing.settings(name), tracing.file).items():
            answer.settings[setting].value.extend(values)
        return answer

    async def log_settings(self, request: Message, context: CallContext) -> Message:
        """Which severities are logged, from now on; all settings are the answer."""
        wire = _values(request.settings, "log setting")
        changed = changed_log_settings(self._control.log_settings(), wire)
        self._control.set_log_settings(changed)
        answer = _class("LogSettingsResponse")()
        for name, value in log_settings(changed).items():
            setattr(answer.settings[name], _LOG_PARAMETER[type(value)], value)
        return answer

    # -- shared memory -------------------------------------------------------------------------

    async def shared_memory(self, request: Message, context: CallContext) -> Message:
        """One registered region, or all."""
        regions = self._data.shared_memory.regions(request.name)
        lines = {region.name: region_line(region) for region in regions}
        return _message("SystemSharedMemoryStatusResponse", {"regions": lines})

    async def register_shared_memory(self, request: Message, context: CallContext) -> Message:
        """Let requests name a region."""
        self._data.shared_memory.register(
            request.name, request.key, request.offset, request.byte_size
        )
        return _class("SystemSharedMemoryRegisterResponse")()

    async def unregister_shared_memory(self, request: Message, context: CallContext) -> Message:
        """Forget a region, or all; what is in flight still has it."""
        self._data.shared_memory.unregister(request.name)
        return _class("SystemSharedMemoryUnregisterResponse")()

    async def cuda_shared_memory(self, request: Message, context: CallContext) -> Message:
        """Nothing, since nothing can be registered."""
        check_no_cuda_region(request.name)
        return _class("CudaSharedMemoryStatusResponse")()

    async def unregister_cuda_shared_memory(
        self, request: Message, context: CallContext
    ) -> Message:
        """Nothing to do: clients call it before they begin, whatever they use."""
        return _class("CudaSharedMemoryUnregisterResponse")()


def _class(name: str) -> Any:
    return message_class(f"inference.{name}")


def _message(name: str, fields: dict[str, Any]) -> Message:
    return ParseDict(fields, _class(name)())


def _check_repository(request: Message) -> None:
    if request.repository_name:
        raise no_repository_name()


_LOG_PARAMETER = {bool: "bool_param", int: "uint32_param", str: "string_param"}


def _values(parameters: Message, what: str) -> dict[str, Any]:
    values = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"{what} '{key}' has no value")
        values[key] = getattr(parameter, choice)
    return values


def _not_offered(why: str) -> Any:
    async def refuse(data: Buffer, context: CallContext) -> Message:
        raise Unsupported(why)

    return refuse
