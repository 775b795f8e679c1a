import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

from inferd.errors import InvalidRequest
from inferd.protocols.malformed import parsed
from inferd.schemas.pb.messages import (
    COMPILED,
    POOL,
    descriptors,
    message_class,
    service_names,
)


def compiler() -> list[str]:
    if importlib.util.find_spec("grpc_tools") is not None:
        return [sys.executable, "-m", "grpc_tools.protoc"]
    if found := shutil.which("protoc"):
        return [found]
    pytest.skip("neither grpcio-tools nor protoc is installed")


def test_what_is_checked_in_is_what_the_sources_say(tmp_path: Path) -> None:
    folder = COMPILED.parent
    sources = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    out = tmp_path / "fresh"
    command = [*compiler(), "-I", ".", "--include_imports", f"--descriptor_set_out={out}", *sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    fresh = {file.name: file for file in FileDescriptorSet.FromString(out.read_bytes()).file}
    assert sorted(fresh) == sources
    assert fresh == descriptors(), "run `make proto`"


def messages(of: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    """Every message of a file, those within others too."""
    nested = of.message_types_by_name if isinstance(of, FileDescriptor) else of.nested_types_by_name
    for message in nested.values():
        yield message
        yield from messages(message)


def looks(field: FieldDescriptor) -> tuple[object, ...]:
    """What of a field is seen on the wire, and in a client's code."""
    kind = field.message_type or field.enum_type
    one_of = field.containing_oneof
    return (
        field.number, field.name, field.type, field.is_repeated, field.is_packed,
        kind.full_name if kind else "", one_of.name if one_of else "",
    )  # fmt: skip


ONLY_OURS = {("inference.ModelMetadataResponse", "properties")}
"""Fields of the protocol that Triton's clients do not know."""


@pytest.mark.parametrize("theirs", [model_config_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR])
def test_every_message_is_that_of_triton(theirs: FileDescriptor) -> None:
    for message in messages(theirs):
        ours = POOL.FindMessageTypeByName(message.full_name)
        mine = {f for f in ours.fields if (ours.full_name, f.name) not in ONLY_OURS}
        assert {looks(f) for f in mine} == {looks(f) for f in message.fields}, message.full_name


@pytest.mark.parametrize("theirs", [model_config_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR])
def test_every_enum_is_that_of_triton(theirs: FileDescriptor) -> None:
    enums = list(theirs.enum_types_by_name.values())
    for message in messages(theirs):
        enums += message.enum_types
    for enum in enums:
        ours = POOL.FindEnumTypeByName(enum.full_name)
        assert ours.values_by_name.keys() == enum.values_by_name.keys()
        assert {v.name: v.number for v in ours.values} == {v.name: v.number for v in enum.values}


def test_every_call_is_that_of_triton() -> None:
    name = "inference.GRPCInferenceService"
    (theirs,) = service_pb2.DESCRIPTOR.services_by_name.values()
    ours = POOL.FindServiceByName(name)
    assert theirs.full_name == name
    assert {
        (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming,
         m.server_streaming)
        for m in ours.methods
    } == {
        (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming,
         m.server_streaming)
        for m in theirs.methods
    }  # fmt: skip


def test_messages_of_others_with_the_same_names_live_beside_ours() -> None:
    ours = message_class("inference.ModelInferRequest")
    theirs = service_pb2.ModelInferRequest
    assert ours is not theirs
    assert ours.FromString(theirs(model_name="m").SerializeToString()).model_name == "m"


def test_services() -> None:
    assert sorted(service_names()) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x07", b"\xff" * 11])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"the message is no inference\.ModelReadyRequest"):
        parsed(message_class("inference.ModelReadyRequest"), data)
