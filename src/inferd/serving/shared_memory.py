"""SharedMemory: regions of system shared memory that clients on this machine have registered, and
tensors in them.

A region is read and written through its file descriptor and never mapped: a client may shrink its
object at any time, and to touch a mapping behind the end of its file would end this process
(SIGBUS), where a read only comes back short. So what a model computes on is private memory, which
nobody can change meanwhile.

A region that is unregistered is closed when the last request that uses it has ended. Regions are
registered on the loop's thread; reading and writing may be done on any.

Source: Triton's extension for shared memory, whose phrases the messages use.
"""

import os
import stat
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from inferd.errors import (
    BackendError,
    InferdError,
    InvalidRequest,
    PayloadTooLarge,
    RegionExists,
    RegionNotFound,
    Unsupported,
)
from inferd.types.elements import encode_binary
from inferd.types.inference import InferenceResponse, RequestedOutput, SharedPlace
from inferd.types.tensor import Tensor, elsewhere

FOLDER: Final = Path("/dev/shm")

SMALL_BYTES: Final = 256 << 20
"""Of a folder for shared memory: below this it is soon full."""

MAX_REGIONS: Final = 1024
MAX_REGISTERED_BYTES: Final = 64 << 30
"""Of all regions together."""

MAX_REQUEST_BYTES: Final = 1 << 30
"""Of all inputs of one request that lie in regions: they are copied."""

INLINE_BYTES: Final = 64 * 1024
"""Outputs that are smaller together are written on the loop's own thread."""

HALVED_BYTES: Final = 4 << 20
"""An input that is larger is read by two threads: the kernel copies at half the memory's speed."""

_helper = ThreadPoolExecutor(1, thread_name_prefix="inferd-regions")

RESERVED: Final = ("sem.", "triton_python_backend_shm_region_")
"""Beginnings of the names of objects that are not there to hold tensors."""


class SharedRegion:
    """One registered region: `byte_size` bytes from `offset` on of the object named `key`."""

    __slots__ = ("__weakref__", "_fd", "byte_size", "key", "name", "offset")

    def __init__(self, name: str, key: str, offset: int, byte_size: int, fd: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def check(self, offset: int, byte_size: int) -> None:
        """Whether so many bytes from there on are within the region; raises InvalidRequest."""
        if offset >= self.byte_size:
            raise InvalidRequest(
                f"Invalid offset for shared memory region: '{self.name}': {offset}, but it has "
                f"{self.byte_size} bytes"
            )
        if offset + byte_size > self.byte_size:
            raise InvalidRequest(
                f"Invalid offset + byte size for shared memory region: '{self.name}': "
                f"{offset} + {byte_size}, but it has {self.byte_size} bytes"
            )

    def read(self, offset: int, byte_size: int) -> memoryview:
        """A copy of some of its bytes; raises InvalidRequest."""
        self.check(offset, byte_size)
        room = np.empty(byte_size, np.uint8).data
        if byte_size <= HALVED_BYTES:
            self._fill(room, offset)
            return room
        middle = byte_size // 2
        half = _helper.submit(self._fill, room[middle:], offset + middle)
        self._fill(room[:middle], offset)
        if half.cancel():  # the helper is busy
            self._fill(room[middle:], offset + middle)
        else:
            half.result()
        return room

    def _fill(self, room: memoryview, offset: int) -> None:
        done = 0
        while done < len(room):
            count = os.preadv(self._fd, [room[done:]], self.offset + offset + done)
            if not count:
                raise self._shrunk(offset + len(room))
            done += count

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes into it; raises InvalidRequest."""
        size = len(data)
        self.check(offset, size)
        start = self.offset + offset
        if os.fstat(self._fd).st_size < start + size:  # a write would make it larger again
            raise self._shrunk(offset + size)
        rest = memoryview(data)
        try:
            while rest:
                count = os.pwrite(self._fd, rest, start)
                rest, start = rest[count:], start + count
        except OSError as error:
            raise InvalidRequest(
                f"shared memory region '{self.name}' cannot be written: {error.strerror}"
            ) from error

    def _shrunk(self, end: int) -> InvalidRequest:
        left = max(0, os.fstat(self._fd).st_size - self.offset)
        return InvalidRequest(
            f"Invalid offset + byte size for shared memory region: '{self.name}': '{self.key}' has "
            f"shrunk since it was registered, and has {left} of the {end} bytes"
        )


class SharedMemory:
    """The registry; while it is off, everything raises Unsupported."""

    def __init__(self, on: bool = False, folder: Path = FOLDER) -> None:
        self.on = on
        self._folder = folder
        self._regions: dict[str, SharedRegion] = {}

    # -- the registry ----------------------------------------------------------------------------

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name a region; raises InvalidRequest, RegionExists."""
        self._check_on()
        if not name:
            raise InvalidRequest("'name' of a shared memory region must not be empty")
        if name in self._regions:
            raise RegionExists(f"shared memory region '{name}' already in manager")
        if len(self._regions) >= MAX_REGIONS:
            raise InvalidRequest(
                f"{MAX_REGIONS} shared memory regions are registered; unregister one first"
            )
        failed = f"failed to register shared memory region '{name}': "
        path = self._folder / object_name(key, failed)
        if offset < 0 or byte_size < 1:
            raise InvalidRequest(
                f"{failed}invalid args: offset {offset} must not be negative, and byte_size "
                f"{byte_size} must be positive"
            )
        registered = sum([region.byte_size for region in self._regions.values()])
        if registered + byte_size > MAX_REGISTERED_BYTES:
            raise InvalidRequest(
                f"{failed}all regions together may have {MAX_REGISTERED_BYTES} bytes"
            )
        try:
            # Never another file behind a link, and no waiting for the other end of a pipe.
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            fd = os.open(path, flags)
        except OSError as error:
            raise InvalidRequest(
                f"Unable to open shared memory region: '{key}': {error.strerror}"
            ) from error
        region = SharedRegion(name, key, offset, byte_size, fd)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{failed}'{key}' is no shared memory object")
        if offset + byte_size > found.st_size:
            raise InvalidRequest(
                f"{failed}invalid args: offset {offset} + byte_size {byte_size} are more than the "
                f"{found.st_size} bytes of '{key}'"
            )
        self._regions[name] = region

    def unregister(self, name: str = "") -> None:
        """Forget a region, if there is one of that name; without a name, all."""
        self._check_on()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def regions(self, name: str = "") -> list[SharedRegion]:
        """One region, or all; raises RegionNotFound."""
        self._check_on()
        if not name:
            return list(self._regions.values())
        region = self._regions.get(name)
        if region is None:
            raise RegionNotFound(f"Unable to find system shared memory region: '{name}'")
        return [region]

    # -- tensors ---------------------------------------------------------------------------------

    def reader(self) -> Callable[[SharedPlace], memoryview]:
        """What reads the inputs of one request; raises InvalidRequest, RegionNotFound."""
        left = MAX_REQUEST_BYTES

        def read(place: SharedPlace) -> memoryview:
            nonlocal left
            region = self._region(place)
            region.check(place.offset, place.byte_size)
            left -= place.byte_size
            if left < 0:
                raise PayloadTooLarge(
                    f"the inputs of one request in shared memory may have {MAX_REQUEST_BYTES} "
                    "bytes together"
                )
            return region.read(place.offset, place.byte_size)

        return read

    def outputs(self, requested: list[RequestedOutput]) -> "SharedOutputs | None":
        """Where those outputs go that are wanted in regions, if any is; raises InvalidRequest,
        RegionNotFound."""
        places = {}
        for output in requested:
            if output.shared is not None:
                region = self._region(output.shared)
                region.check(output.shared.offset, output.shared.byte_size)
                places[output.name] = region, output.shared
        return SharedOutputs(places) if places else None

    def _region(self, place: SharedPlace) -> SharedRegion:
        self._check_on()
        region = self._regions.get(place.region)
        if region is None:
            raise RegionNotFound(f"Unable to find shared memory region: '{place.region}'")
        return region

    def _check_on(self) -> None:
        if not self.on:
            raise Unsupported(
                "system shared memory is off; start the server with --shared-memory system to let "
                "clients on the same machine use it"
            )

    # -- the machine -----------------------------------------------------------------------------

    def warning(self) -> str:
        """What its operator should know of this machine, if anything."""
        if not self.on:
            return ""
        try:
            found = os.statvfs(self._folder)
        except OSError as error:
            return f"there is no shared memory here: {self._folder}: {error.strerror}"
        size = found.f_blocks * found.f_frsize
        if size >= SMALL_BYTES:
            return ""
        return (
            f"{self._folder} has {size >> 20} MiB, which shared memory of clients soon fills; give "
            "it more (docker run --shm-size, or an emptyDir of medium Memory)"
        )


class SharedOutputs:
    """Where outputs of one request go."""

    __slots__ = ("_places",)

    def __init__(self, places: dict[str, tuple[SharedRegion, SharedPlace]]) -> None:
        self._places = places

    def is_heavy(self, response: InferenceResponse) -> bool:
        """Whether writing takes long enough to do it on a thread."""
        return sum([t.array.nbytes for t in response.outputs if t.name in self._places]) > (
            INLINE_BYTES
        )

    def written(self, response: InferenceResponse) -> InferenceResponse | InferdError:
        """The response once its outputs are in their places, or what went wrong."""
        try:
            response.outputs = [
                self._write(tensor) if tensor.name in self._places else tensor
                for tensor in response.outputs
            ]
        except InferdError as error:
            return error
        except Exception as error:  # whatever it is, the request has to be answered
            return BackendError(f"outputs cannot be written to shared memory: {error}")
        return response

    def _write(self, tensor: Tensor) -> Tensor:
        region, place = self._places[tensor.name]
        data = encode_binary(tensor)
        if len(data) > place.byte_size:
            raise InvalidRequest(
                f"shared memory size specified with the request for output '{tensor.name}' "
                f"({place.byte_size} bytes) should be at least {len(data)} bytes to hold the "
                "results"
            )
        region.write(place.offset, data)
        return Tensor(tensor.name, tensor.datatype, elsewhere(tensor.array))


def object_name(key: str, failed: str = "") -> str:
    """The name of the object that a key means, as shm_open takes it: one with no folder but that
    of shared memory. Raises InvalidRequest."""
    name = key.lstrip("/")
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name.encode()) > 255:
        raise InvalidRequest(
            f"{failed}key {key!r} is no name of a shared memory object, such as '/input0'"
        )
    for prefix in RESERVED:
        if name.startswith(prefix):
            raise InvalidRequest(
                f"{failed}cannot register key '{key}': it contains the reserved prefix '{prefix}'"
            )
    return name
