"""Memory that a server and a worker share, and tensors in it.

It is one file that has no name and no pages until they are written. Each slot has two windows, one
for what goes in and one for what comes out; a slot belongs to one job at a time, so nothing has to
be locked or freed. It refuses to know what a job is.
"""

import math
import mmap
import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from inferd.types.datatype import BYTES, DATATYPES, DataType
from inferd.types.tensor import Array
from inferd.workers.messages import Packed

SLOTS: Final = 1024
WINDOW_BYTES: Final = 1 << 32
"""The most that a batch's inputs, or its outputs, may take together."""

INLINE_BYTES: Final = 1 << 15
"""Tensors that are smaller together go with their message, which is quicker."""

COPIED_BYTES: Final = 1 << 18
"""A tensor that is smaller is not worth lending memory for."""

KEPT_BYTES: Final = 64 << 20
"""A window that was larger gives its pages back behind the job."""

_FIRST_BYTES: Final = 1 << 20
_ALIGNMENT: Final = 64


def create_memory() -> int:
    """A file descriptor of shared memory for one worker."""
    fd = os.memfd_create("inferd-worker", os.MFD_CLOEXEC)
    os.ftruncate(fd, SLOTS * 2 * WINDOW_BYTES)
    return fd


class Window:
    """One direction of one slot, mapped as far as it was needed."""

    def __init__(self, fd: int, slot: int, outward: bool) -> None:
        self._fd = fd
        self._offset = (2 * slot + outward) * WINDOW_BYTES
        self.map: mmap.mmap | None = None

    def reserve(self, size: int) -> mmap.mmap:
        """The memory, at least `size` bytes of it; raises MemoryError beyond WINDOW_BYTES."""
        mapped = len(self.map) if self.map is not None else 0
        if self.map is None or mapped < size:
            if size > WINDOW_BYTES:
                raise MemoryError(f"{size} bytes in one batch are more than {WINDOW_BYTES}")
            length = max(_FIRST_BYTES, 1 << (size - 1).bit_length())
            self.map = mmap.mmap(self._fd, length, offset=self._offset)
        return self.map

    def trim(self, kept_bytes: int = KEPT_BYTES) -> None:
        """Give the pages of a window that is larger back to the system."""
        if self.map is not None and len(self.map) > kept_bytes:
            self.map.madvise(mmap.MADV_REMOVE)
            self.map = None


def pack(columns: Sequence[tuple[DataType, Sequence[Array]]], window: Window) -> list[Packed]:
    """Tensors, each given as the parts that make it up along the first dimension: one copy, into
    the window, or into the message where they are small."""
    flat = [
        (kind, _texts_packed(parts) if kind is BYTES else parts, _joined_shape(parts))
        for kind, parts in columns
    ]
    sizes = [sum(part.nbytes for part in parts) for _, parts, _ in flat]
    if sum(sizes) <= INLINE_BYTES:
        return [
            Packed(kind.name, shape, b"".join([part.tobytes() for part in parts]), size)
            for (kind, parts, shape), size in zip(flat, sizes, strict=True)
        ]
    starts = []
    end = 0
    for size in sizes:
        starts.append(end)
        end = -(-(end + size) // _ALIGNMENT) * _ALIGNMENT
    memory = window.reserve(end)
    packed = []
    for (kind, parts, shape), size, start in zip(flat, sizes, starts, strict=True):
        _copy_in(parts, memory, start)
        packed.append(Packed(kind.name, shape, start, size))
    return packed


def pack_inline(kind: DataType, array: Array) -> Packed:
    """A tensor whose bytes go with the message."""
    (part,) = _texts_packed([array]) if kind is BYTES else [array]
    data = part.tobytes()
    return Packed(kind.name, array.shape, data, len(data))


def unpack(packed: Packed, window: Window | None, copy: bool) -> Array:
    """A tensor; without `copy` one in the window is a view of it, good until the job has ended."""
    kind = DATATYPES[packed.datatype]
    if isinstance(packed.data, bytes):
        buffer: bytearray | mmap.mmap = bytearray(packed.data)
        start, copy = 0, False
    else:
        assert window is not None
        start = packed.data
        buffer = window.reserve(start + packed.size)
    if kind is BYTES:
        return _texts_unpacked(buffer, start, packed.shape)
    array: Array = np.ndarray(packed.shape, kind.dtype, buffer, start)
    return array.copy() if copy else array


def unpack_lent(packed: Sequence[Packed], window: Window) -> tuple[list[Array], Array]:
    """Tensors of one job, large ones as views of the window, and what these hold on to: small ones
    may be kept for long, such as states of sequences, and are copied."""
    end = max(p.data + p.size for p in packed if isinstance(p.data, int))
    whole: Array = np.frombuffer(window.reserve(end), np.uint8, end)
    return [
        unpack(p, window, True)
        if p.size < COPIED_BYTES or isinstance(p.data, bytes) or p.datatype == BYTES.name
        else np.ndarray(p.shape, DATATYPES[p.datatype].dtype, whole, p.data)
        for p in packed
    ], whole


def unpack_all(packed: Sequence[Packed | None], window: Window, copy: bool) -> list[Array | None]:
    """Tensors of one job, in one mapping of the window, by which it is seen who holds on to any."""
    ends = [p.data + p.size for p in packed if p is not None and isinstance(p.data, int)]
    if ends:
        window.reserve(max(ends))
    return [None if p is None else unpack(p, window, copy) for p in packed]


def _joined_shape(parts: Sequence[Array]) -> tuple[int, ...]:
    first: tuple[int, ...] = parts[0].shape
    if len(parts) == 1:
        return first
    return (sum([part.shape[0] for part in parts]), *first[1:])


def _texts_packed(parts: Sequence[Array]) -> list[Array]:
    """The elements' lengths, four bytes each, and the elements."""
    texts: list[bytes] = [text for part in parts for text in part.ravel().tolist()]
    lengths = np.array([len(text) for text in texts], np.uint32)
    return [np.frombuffer(lengths.tobytes() + b"".join(texts), np.uint8)]


def _texts_unpacked(buffer: bytearray | mmap.mmap, start: int, shape: tuple[int, ...]) -> Array:
    count = math.prod(shape)
    lengths = np.frombuffer(buffer, np.uint32, count, start).tolist()
    start += 4 * count
    array: Array = np.empty(count, object)
    for index, length in enumerate(lengths):
        array[index] = bytes(buffer[start : start + length])
        start += length
    return array.reshape(shape)


def _copy_in(parts: Sequence[Array], memory: mmap.mmap, start: int) -> None:
    for part in parts:
        there: Array = np.ndarray(part.shape, part.dtype, memory, start)
        np.copyto(there, part)
        start += part.nbytes
