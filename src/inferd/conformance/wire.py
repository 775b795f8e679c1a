"""One way to a server: stock tritonclient over HTTP or gRPC, with the same words for both."""

import asyncio
import http.client
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from inferd.conformance.check import Mismatch, Skipped

TIMEOUT_S = 30.0

CODES = {
    "invalid": ("400", "StatusCode.INVALID_ARGUMENT"),
    "not found": ("404", "StatusCode.NOT_FOUND"),
    "unavailable": ("503", "StatusCode.UNAVAILABLE"),
    "unsupported": ("501", "StatusCode.UNIMPLEMENTED"),
}
"""What an error is called here, over HTTP and over gRPC."""


class Asked(NamedTuple):
    """One request of several that are sent together, `after_s` after the first."""

    model: str
    inputs: Sequence[Any]
    options: Mapping[str, Any] = {}
    after_s: float = 0.0


class Reply(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; raises Mismatch."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Mismatch("a body in JSON", "JSON", self.body[:200]) from error


class Target(NamedTuple):
    """What is told of the server. `metrics` is a URL; `pid` its process, to be ended."""

    url: str
    grpc: str = ""
    metrics: str = ""
    pid: int = 0

    @property
    def address(self) -> str:
        """Host and port of HTTP, as tritonclient wants them."""
        return urlsplit(self.url if "://" in self.url else f"http://{self.url}").netloc

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(f"//{self.address}").hostname in ("localhost", "127.0.0.1", "::1")


class Wire(AbstractContextManager["Wire"]):
    """`name` is "http" or "grpc"."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        self.module: ModuleType = http_client if name == "http" else grpc_client
        if name == "http":
            self.address = target.address
            options = {"connection_timeout": TIMEOUT_S, "network_timeout": TIMEOUT_S}
            self.client: Any = http_client.InferenceServerClient(self.address, **options)
        else:
            self.address = target.grpc
            self.client = grpc_client.InferenceServerClient(self.address)

    def __exit__(self, *_: object) -> None:
        self.client.close()

    # -- tensors -------------------------------------------------------------------------------

    def tensor(self, name: str, array: Any, datatype: str = "", binary: bool = True) -> Any:
        """An input; JSON is only HTTP's."""
        array = np.asarray(array)
        made = self.module.InferInput(
            name, list(array.shape), datatype or np_to_triton_dtype(array.dtype)
        )
        options = {"binary_data": binary} if self.name == "http" else {}
        try:
            made.set_data_from_numpy(array, **options)
        except InferenceServerException:
            if datatype != "BF16":
                raise
            import ml_dtypes  # which new clients bring, and want: old ones take float32

            made.set_data_from_numpy(array.astype(ml_dtypes.bfloat16), **options)
        return made

    def output(self, name: str, binary: bool = True, classes: int = 0) -> Any:
        """An output that is asked for."""
        if self.name == "http":
            return http_client.InferRequestedOutput(name, binary_data=binary, class_count=classes)
        return grpc_client.InferRequestedOutput(name, class_count=classes)

    def pair(self, rows: int = 1) -> list[Any]:
        """Inputs of add_sub: counting up from 0, and ones."""
        first = np.arange(rows * 16, dtype=np.float32).reshape(rows, 16)
        return [
            self.tensor("INPUT0", first), self.tensor("INPUT1", np.ones((rows, 16), np.float32))
        ]  # fmt: skip

    def one(self, value: int = 0, rows: int = 1) -> list[Any]:
        """The input of the models that take one INT32 a row."""
        return [self.tensor("INPUT0", np.full((rows, 1), value, np.int32))]

    # -- asking --------------------------------------------------------------------------------

    def infer(self, model: str, inputs: Sequence[Any], **options: Any) -> Any:
        """tritonclient's result."""
        return self.client.infer(model, inputs, **options)

    def refused(
        self, asked: str, kind: str, model: str, inputs: Sequence[Any], **options: Any
    ) -> str:
        """The message of a request that is refused with an error of a kind; raises Mismatch."""
        try:
            self.infer(model, inputs, **options)
        except InferenceServerException as error:
            return self.told(asked, kind, error)
        raise Mismatch(asked, f"an error, {self.code(kind)}", "an answer")

    def told(self, asked: str, kind: str, error: InferenceServerException) -> str:
        """The message of an error of a kind; raises Mismatch."""
        if str(error.status()) != self.code(kind):
            raise Mismatch(asked, self.code(kind), f"{error.status()}: {error.message()}")
        return str(error.message())

    def code(self, kind: str) -> str:
        """The status of a kind of error here."""
        return CODES[kind][self.name == "grpc"]

    def together(self, *asked: Asked) -> list[Any]:
        """Answers, or exceptions, of requests that are in flight together: the asyncio clients."""

        async def one(client: Any, request: Asked) -> Any:
            await asyncio.sleep(request.after_s)
            return await client.infer(request.model, request.inputs, **request.options)

        async def all_of_them() -> list[Any]:
            aio = http_aio if self.name == "http" else grpc_aio
            options = {"conn_limit": len(asked)} if self.name == "http" else {}
            async with aio.InferenceServerClient(self.address, **options) as client:
                return await asyncio.gather(
                    *(one(client, request) for request in asked), return_exceptions=True
                )

        return asyncio.run(all_of_them())

    # -- what a server says of itself ----------------------------------------------------------

    def metadata(self, model: str = "", version: str = "") -> dict[str, Any]:
        """Of the server, or of a model."""
        if model:
            return dict(self._plain(self.client.get_model_metadata(model, version)))
        return dict(self._plain(self.client.get_server_metadata()))

    def config(self, model: str) -> dict[str, Any]:
        """The configuration of a model."""
        found = self._plain(self.client.get_model_config(model))
        return dict(found.get("config", found))

    def statistics(self, model: str, version: str = "1") -> dict[str, Any]:
        """Those of one version; every number is one."""
        found = self._plain(self.client.get_inference_statistics(model, version))
        entries = found["model_stats"]
        if len(entries) != 1:
            raise Mismatch(f"statistics of {model} version {version}", "one entry", entries)
        return dict(_numbers(entries[0]))

    def index(self) -> list[dict[str, str]]:
        """The repository."""
        found: Any = self.client.get_model_repository_index()
        return list(found if self.name == "http" else self._plain(found).get("models", []))

    def _plain(self, message: Any) -> Any:
        if self.name == "http":
            return message
        return MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    # -- below tritonclient --------------------------------------------------------------------

    def http(
        self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None, address: str = "",
    ) -> Reply:  # fmt: skip
        """One HTTP request, as it is; raises OSError."""
        connection = http.client.HTTPConnection(address or self.target.address, timeout=TIMEOUT_S)
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            connection.request(method, path, data, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Every sample by its line without the value; raises Skipped where there are none."""
        urls = [self.target.metrics] if self.target.metrics else [
            f"http://{self.target.address}/metrics",
            f"http://{self.target.address.rpartition(':')[0]}:8002/metrics",
        ]  # fmt: skip
        for url in urls:
            parts = urlsplit(url)
            try:
                reply = self.http("GET", parts.path, address=parts.netloc)
            except OSError:
                continue
            if reply.status == 200:
                lines = [line for line in reply.body.decode().splitlines() if line[:1] not in "#"]
                return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
        raise Skipped("no metrics; say where they are with --metrics")


def _numbers(value: Any) -> Any:
    """int64 is text in protobuf's JSON."""
    if isinstance(value, dict):
        return {key: v if key in ("name", "version") else _numbers(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value
