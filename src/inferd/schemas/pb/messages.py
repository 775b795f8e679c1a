"""Message classes, made from the checked-in descriptors in a pool of our own.

The pool is private, so that other packages (tritonclient, kserve, tensorflow) may bring the same
packages and messages; and no code is generated, so that any runtime of protobuf that is new enough
will do. It refuses to know what the messages are for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

COMPILED = Path(__file__).with_name("messages.binpb")
"""The descriptors of every .proto file here, imports before what imports them (`make proto`)."""

Message = Any
"""A message; its fields are known when it runs, not when types are checked."""


def descriptors() -> dict[str, FileDescriptorProto]:
    """What each .proto file declares, by the file's name."""
    found = FileDescriptorSet.FromString(COMPILED.read_bytes())
    return {file.name: file for file in found.file}


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in descriptors().values():
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _pool()


def message_class(name: str) -> Any:
    """The class of a message by its full name."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def service_names() -> Iterator[str]:
    """The full name of every service."""
    for file in descriptors().values():
        for service in file.service:
            yield f"{file.package}.{service.name}"
