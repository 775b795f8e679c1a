"""`grpc.reflection.v1` and `v1alpha`: what the services and their messages are, for clients that
explore a server."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FileDescriptor

from inferd.protocols.grpc.methods import CallContext, Method, Requests
from inferd.protocols.grpc.status import Status
from inferd.protocols.malformed import parsed
from inferd.schemas.pb.messages import POOL, Message, message_class

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
SERVICES = tuple(f"{package}.ServerReflection" for package in PACKAGES)


def reflection_methods(services: Sequence[str]) -> tuple[Method, ...]:
    """The call of either version, for these services."""
    return tuple(_Reflection(package, services).method() for package in PACKAGES)


class _Reflection:
    """One version of the service; the two differ in their names alone."""

    def __init__(self, package: str, services: Sequence[str]) -> None:
        self._services = services
        self._path = f"/{package}.ServerReflection/ServerReflectionInfo"
        self._request = message_class(f"{package}.ServerReflectionRequest")
        self._response = message_class(f"{package}.ServerReflectionResponse")
        self._answers: dict[str | None, Callable[[Any], dict[str, Any]]] = {
            "list_services": self._list,
            "file_by_filename": lambda name: _files(POOL.FindFileByName(name)),
            "file_containing_symbol": lambda name: _files(_file_of(name)),
            "file_containing_extension": _extension,
            "all_extension_numbers_of_type": _extension_numbers,
        }

    def method(self) -> Method:
        """Its one call."""
        return Method(self._path, "bidi", self.info)

    async def info(self, requests: Requests, context: CallContext) -> AsyncGenerator[Any, None]:
        """Answer question by question."""
        async for data in requests:
            yield self._answer(parsed(self._request, data))

    def _answer(self, request: Message) -> Message:
        asked = request.WhichOneof("message_request")
        if asked is None:
            fields = _error(Status.INVALID_ARGUMENT, "nothing is asked")
        else:
            value = getattr(request, asked)
            try:
                fields = self._answers[asked](value)
            except KeyError:
                what = str(value).strip().replace("\n", " ")
                fields = _error(Status.NOT_FOUND, f"{asked} '{what}' is not found")
        return self._response(valid_host=request.host, original_request=request, **fields)

    def _list(self, _: str) -> dict[str, Any]:
        names = [{"name": name} for name in sorted(self._services)]
        return {"list_services_response": {"service": names}}


def _error(status: Status, message: str) -> dict[str, Any]:
    return {"error_response": {"error_code": int(status), "error_message": message}}


def _files(file: FileDescriptor) -> dict[str, Any]:
    """A file and all that it imports."""
    found = {file.name: file}
    waiting = [file]
    while waiting:
        for imported in waiting.pop().dependencies:
            if imported.name not in found:
                found[imported.name] = imported
                waiting.append(imported)
    data = [file.serialized_pb for file in found.values()]
    return {"file_descriptor_response": {"file_descriptor_proto": data}}


def _file_of(symbol: str) -> FileDescriptor:
    """Where a service, message, field, enum or method is declared; raises KeyError."""
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        parent, _, name = symbol.rpartition(".")
        if not parent:
            raise
        try:
            inside = POOL.FindServiceByName(parent).methods_by_name
        except KeyError:
            inside = POOL.FindMessageTypeByName(parent).fields_by_name
        if name not in inside:
            raise
        return POOL.FindFileContainingSymbol(parent)


def _extension(request: Message) -> dict[str, Any]:
    """No file here extends a message."""
    raise KeyError


def _extension_numbers(name: str) -> dict[str, Any]:
    POOL.FindMessageTypeByName(name)
    return {"all_extension_numbers_response": {"base_type_name": name}}
