"""Shared memory as the Open Inference Protocol's parameters name it, and its regions as Triton's
extension prints them. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from inferd.errors import InvalidRequest, RegionNotFound, Unsupported
from inferd.types.inference import SharedPlace

REGION = "shared_memory_region"
"""The parameter by which a tensor lies in shared memory."""

_OFFSET, _BYTE_SIZE = "shared_memory_offset", "shared_memory_byte_size"

NO_CUDA = (
    "CUDA shared memory is not supported by this server, whose tensors are in the CPU's memory; "
    "use system shared memory"
)

ReadShared = Callable[[SharedPlace], memoryview]
"""Reads an input of a request; raises InvalidRequest, RegionNotFound, Unsupported."""


class Region(Protocol):
    """A registered region."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def key(self) -> str:
        """The name of the object it is a part of."""

    @property
    def offset(self) -> int:
        """Where in the object it starts."""

    @property
    def byte_size(self) -> int:
        """How large it is."""


def region_line(region: Region) -> dict[str, Any]:
    """One entry of a status."""
    return {
        "name": region.name, "key": region.key, "offset": region.offset,
        "byte_size": region.byte_size,
    }  # fmt: skip


def check_no_cuda_region(name: str) -> None:
    """Raises RegionNotFound for a region of that name; without one, all are meant, and none are
    there."""
    if name:
        raise RegionNotFound(f"Unable to find cuda shared memory region: '{name}'")


def shared_place(what: str, parameters: Mapping[str, Any]) -> SharedPlace | None:
    """Where an input or output lies, if it is said to lie in shared memory; raises
    InvalidRequest."""
    region = parameters.get(REGION)
    if region is None:
        return None
    if not isinstance(region, str):
        raise InvalidRequest(f"{what}: parameter '{REGION}' must be a name, got {region!r}")
    numbers = []
    for name in (_OFFSET, _BYTE_SIZE):
        number = parameters.get(name, 0 if name == _OFFSET else None)
        if type(number) is not int or not 0 <= number < 2**63:
            raise InvalidRequest(
                f"{what}: parameter '{name}' must be a number of bytes, got {number!r}"
            )
        numbers.append(number)
    return SharedPlace(region, *numbers)


def no_shared_memory(place: SharedPlace) -> memoryview:
    """The ReadShared of a server where it is off."""
    raise Unsupported(
        f"{REGION} '{place.region}': shared memory is off; start the server with --shared-memory "
        "system to let clients on the same machine use it"
    )
