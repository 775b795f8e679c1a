from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from fakes import on_loop
from inferd.errors import InvalidRequest
from inferd.protocols.grpc.reflection import PACKAGES
from inferd.protocols.grpc.services import SERVICES
from inferd.schemas.pb.messages import message_class
from models import mlp, write_model
from protocols.grpc.planes import repository

pytestmark = pytest.mark.parametrize("package", PACKAGES)

MESSAGES = {"inference/service.proto", "inference/model_config.proto"}


async def ask(folder: Path, package: str, *questions: Any) -> list[Any]:
    """The answers to questions: fields of a request, or bytes."""
    kind = message_class(f"{package}.ServerReflectionRequest")

    async def requests() -> AsyncIterator[bytes]:
        for asked in questions:
            yield asked if isinstance(asked, bytes) else kind(**asked).SerializeToString()

    write_model(folder, "mlp", mlp())
    async with repository(folder) as client:
        method = client.method("ServerReflectionInfo", f"{package}.ServerReflection")
        return [answer async for answer in method.handler(requests(), client.context)]  # type: ignore[union-attr]


def files(answer: Any) -> set[str]:
    found = answer.file_descriptor_response.file_descriptor_proto
    return {FileDescriptorProto.FromString(data).name for data in found}


@on_loop
async def test_services(tmp_path: Path, package: str) -> None:
    (answer,) = await ask(tmp_path, package, {"list_services": "*", "host": "h"})
    found = [service.name for service in answer.list_services_response.service]
    assert found == sorted(SERVICES)
    assert answer.valid_host == "h"
    assert answer.original_request.list_services == "*"


@on_loop
async def test_symbols(tmp_path: Path, package: str) -> None:
    symbols = [
        "inference.GRPCInferenceService",
        "inference.GRPCInferenceService.ModelInfer",
        "inference.ModelInferRequest",
        "inference.ModelInferRequest.InferInputTensor",
        "inference.ModelInferRequest.raw_input_contents",
    ]
    answers = await ask(tmp_path, package, *[{"file_containing_symbol": name} for name in symbols])
    for answer in answers:
        assert files(answer) == MESSAGES
    (config,) = await ask(tmp_path, package, {"file_containing_symbol": "inference.ModelConfig"})
    assert files(config) == {"inference/model_config.proto"}


@on_loop
async def test_a_service_can_be_made_of_what_is_told(tmp_path: Path, package: str) -> None:
    for service in SERVICES:
        (answer,) = await ask(tmp_path, package, {"file_containing_symbol": service})
        pool = DescriptorPool()
        told = [
            FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        for file in reversed(told):
            pool.AddSerializedFile(file.SerializeToString())
        assert pool.FindServiceByName(service).methods


@on_loop
async def test_files(tmp_path: Path, package: str) -> None:
    (answer,) = await ask(tmp_path, package, {"file_by_filename": "inference/service.proto"})
    assert files(answer) == MESSAGES


@on_loop
async def test_extensions(tmp_path: Path, package: str) -> None:
    asked = {"containing_type": "inference.ModelConfig", "extension_number": 100}
    numbers, one = await ask(
        tmp_path,
        package,
        {"all_extension_numbers_of_type": "inference.ModelConfig"},
        {"file_containing_extension": asked},
    )
    found = numbers.all_extension_numbers_response
    assert (found.base_type_name, list(found.extension_number)) == ("inference.ModelConfig", [])
    assert one.error_response.error_code == 5


@on_loop
async def test_what_there_is_not(tmp_path: Path, package: str) -> None:
    answers = await ask(
        tmp_path,
        package,
        {"file_containing_symbol": "inference.Nothing"},
        {"file_containing_symbol": "inference.GRPCInferenceService.Nothing"},
        {"file_containing_symbol": "inference.ModelInferRequest.nothing"},
        {"file_containing_symbol": "nothing"},
        {"file_containing_symbol": ""},
        {"file_by_filename": "nothing.proto"},
        {"all_extension_numbers_of_type": "nothing"},
        {},
        {"list_services": ""},
    )
    *errors, asked_nothing, last = answers
    assert {error.error_response.error_code for error in errors} == {5}
    assert errors[0].error_response.error_message == (
        "file_containing_symbol 'inference.Nothing' is not found"
    )
    assert asked_nothing.error_response.error_code == 3
    assert last.list_services_response.service  # an error does not end the call


@on_loop
async def test_junk(tmp_path: Path, package: str) -> None:
    with pytest.raises(InvalidRequest, match=f"the message is no {package}"):
        await ask(tmp_path, package, b"\xff")
