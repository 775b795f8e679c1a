"""A model's weights on disk: safetensors files, mapped into memory and read only where asked.

The format is 8 bytes with the length of a header (little-endian), the header as JSON, and the bytes
of all tensors. Everything a header says is checked against the file before anything is read.

It refuses to know models: what a tensor means is said by a `WeightSource`.
"""

import json
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferd.engine.models.shapes import weight_shapes
from inferd.engine.models.spec import DecoderSpec, WeightSource
from inferd.errors import BackendError, ConfigError, Unsupported

Array = NDArray[Any]
Rows = tuple[int, int]

DTYPES: dict[str, str] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
"""The format's dtypes and numpy's; those that numpy does not have come as their bits."""

BITS_ONLY = ("F8_E4M3", "F8_E5M2")
MAX_HEADER_BYTES = 100_000_000
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor in a file: where its bytes begin, counted from the file's first."""

    path: Path
    data: mmap.mmap
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Checkpoint:
    """All tensors of a model's folder, by name.

    Raises ConfigError when files are missing and BackendError when one is corrupt. Arrays that are
    views are read-only and keep the file mapped as long as they live.
    """

    def __init__(self, model_dir: Path) -> None:
        self.model_dir = model_dir
        self._entries: dict[str, _Entry] = {}
        for path, wanted in _files(model_dir).items():
            entries = _open(path)
            for name in entries if wanted is None else wanted:
                if name not in entries:
                    raise BackendError(f"{path}: there is no tensor '{name}', which {INDEX} names")
                if name in self._entries:
                    other = self._entries[name].path.name
                    raise BackendError(f"{path}: tensor '{name}' is in {other} too")
                self._entries[name] = entries[name]

    def names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(self._entries)

    @property
    def num_bytes(self) -> int:
        """The bytes of all tensors."""
        return sum(
            math.prod(e.shape) * np.dtype(DTYPES[e.dtype]).itemsize for e in self._entries.values()
        )

    def dtype(self, name: str) -> str:
        """The dtype of a tensor, in the format's words: "F32", "BF16" and so on."""
        return self._entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, as it is in the file."""
        return self._entry(name).shape

    def tensor(self, name: str) -> Array:
        """A view of a tensor; BF16 comes as uint16."""
        entry = self._entry(name)
        count = math.prod(entry.shape)
        if not count:
            return np.empty(entry.shape, DTYPES[entry.dtype])
        flat: Array = np.frombuffer(entry.data, DTYPES[entry.dtype], count, entry.offset)
        return flat.reshape(entry.shape)

    def float32(self, name: str, rows: Rows | None = None) -> NDArray[np.float32]:
        """A copy of a tensor, or of `rows` (first, end) of it, as float32."""
        return self.load(WeightSource(name, (name,)), rows)

    def load(self, source: WeightSource, rows: Rows | None = None) -> NDArray[np.float32]:
        """A canonical weight as float32: parts joined, transposed where they have to be; or only
        `rows` (first, end) of it. A copy, contiguous."""
        pieces = [self._piece(source, part) for part in source.parts]
        first, end = rows or (0, sum(piece.shape[0] for piece, _ in pieces))
        if not 0 <= first <= end <= sum(piece.shape[0] for piece, _ in pieces):
            raise ValueError(f"rows {first} to {end} of {source.name} {self.source_shape(source)}")
        out = np.empty((end - first, *pieces[0][0].shape[1:]), np.float32)
        start = -first
        for (piece, dtype), part in zip(pieces, source.parts, strict=True):
            inside = piece[max(-start, 0) : max(out.shape[0] - start, 0)]
            self._convert(inside, out[max(start, 0) :][: inside.shape[0]], dtype, part)
            start += piece.shape[0]
        return out

    def load_raw(self, source: WeightSource) -> tuple[Array, str]:
        """A canonical weight in the dtype of the checkpoint, and that dtype; BF16 comes as uint16.
        A view where there is nothing to join or to transpose. Raises BackendError when parts have
        different dtypes."""
        pieces = [self._piece(source, part) for part in source.parts]
        dtypes = {dtype for _, dtype in pieces}
        if len(dtypes) > 1:
            named = ", ".join(f"'{part}'" for part in source.parts)
            raise BackendError(f"{self.model_dir}: tensors {named} differ in dtype: {dtypes}")
        arrays = [array for array, _ in pieces]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return np.ascontiguousarray(joined), dtypes.pop()

    def source_shape(self, source: WeightSource) -> tuple[int, ...]:
        """The shape that `load` will return; reads nothing."""
        shapes = [self._piece(source, part)[0].shape for part in source.parts]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def close(self) -> None:
        """Let go of the files; views that are still held keep theirs."""
        self._entries.clear()

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise BackendError(f"{self.model_dir}: there is no tensor '{name}' in its safetensors")
        return entry

    def _piece(self, source: WeightSource, part: str) -> tuple[Array, str]:
        """One part as the canonical weight has it, and its dtype."""
        array = self.tensor(part)
        if array.ndim == 0 or (source.transposed and array.ndim != 2):
            raise BackendError(f"{self._entry(part).path}: tensor '{part}' has shape {array.shape}")
        if source.rows is not None:
            array = array[slice(*source.rows)]
        return (array.T if source.transposed else array), self.dtype(part)

    def _convert(self, array: Array, out: NDArray[np.float32], dtype: str, part: str) -> None:
        if dtype in BITS_ONLY:
            raise Unsupported(f"{self._entry(part).path}: tensor '{part}' has dtype {dtype}")
        if array.shape != out.shape:
            raise BackendError(
                f"{self._entry(part).path}: tensor '{part}' gives {array.shape} where its "
                f"neighbours ask for {out.shape}"
            )
        if dtype == "BF16":  # the upper half of a float32
            np.left_shift(array, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            out[...] = array


def check_shapes(
    checkpoint: Checkpoint, spec: DecoderSpec, sources: Iterable[WeightSource]
) -> None:
    """Compare every weight's shape with what the spec asks for, before anything is read. Raises
    BackendError that names the tensors of the first that is missing or differs."""
    shapes = weight_shapes(spec)
    for source in sources:
        found, wanted = checkpoint.source_shape(source), shapes[source.name]
        if found != wanted:
            raise BackendError(
                f"{checkpoint.model_dir}: {' + '.join(source.parts)} make {source.name} "
                f"{list(found)}, but config.json asks for {list(wanted)}"
            )


def _files(model_dir: Path) -> dict[Path, list[str] | None]:
    """The files to read and the tensors to take from each; None is all."""
    index = model_dir / INDEX
    if index.exists():
        wanted: dict[Path, list[str] | None] = {}
        for name, file in _weight_map(index).items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ConfigError(f"tensor '{name}': {file!r} is no file's name", file=str(index))
            tensors = wanted.setdefault(model_dir / file, [])
            assert tensors is not None
            tensors.append(name)
        return wanted
    single = model_dir / "model.safetensors"
    paths = [single] if single.exists() else sorted(model_dir.glob("*.safetensors"))
    if not paths:
        raise ConfigError(
            "there are no *.safetensors files; other formats are not read (transformers' "
            "save_pretrained writes this one)",
            file=str(model_dir),
        )
    return dict.fromkeys(paths)


def _weight_map(index: Path) -> Mapping[str, object]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise ConfigError(f"cannot be read as an index: {error!r}", file=str(index)) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError("must name tensors and their files", file=str(index), field="weight_map")
    return weight_map


def _open(path: Path) -> dict[str, _Entry]:
    """Map a file and read its header."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 8:
                raise BackendError(f"{path}: has {size} bytes, which is no safetensors file")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ConfigError(f"cannot be opened: {error.strerror}", file=str(path)) from error
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise BackendError(f"{path}: has {size} bytes and states a header of {length}")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{path}: its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BackendError(f"{path}: its header is not a JSON object")
    header.pop("__metadata__", None)
    return dict(_entries(path, data, header, 8 + length))


def _entries(
    path: Path, data: mmap.mmap, header: Mapping[str, Any], begin: int
) -> Iterator[tuple[str, _Entry]]:
    """The checked entries of a header; the tensors' bytes begin at `begin`."""
    for name, entry in header.items():
        try:
            dtype, shape, (first, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = (first, end, *shape)
            good = dtype in DTYPES and all(type(n) is int and n >= 0 for n in numbers)
        except (LookupError, TypeError, ValueError):
            good = False
        if not good:
            raise BackendError(f"{path}: tensor '{name}' has no valid entry in the header: {entry}")
        if end > len(data) - begin:
            raise BackendError(f"{path}: tensor '{name}' ends behind the file; is it whole?")
        if math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != end - first:
            raise BackendError(f"{path}: tensor '{name}', {dtype} {shape}, has {end - first} bytes")
        yield name, _Entry(path, data, dtype, tuple(shape), begin + first)
