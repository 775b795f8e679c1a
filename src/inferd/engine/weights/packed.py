"""Weights packed for the CPU's products, made once from a checkpoint and kept in a file, so that
the next start only reads them.

What a packed file holds is told by its name: a digest of the checkpoint's files (name, size, time),
the form and the layout. A file is written under another name and renamed when it is whole.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferd.engine.kernels.linear import PANEL
from inferd.engine.kernels.pack import pack_panels, panel_bytes
from inferd.engine.kernels.program import large
from inferd.engine.models.spec import WeightSource
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.errors import Unsupported

LAYOUT = 3
"""Raised whenever the bytes of a packed weight change their meaning."""

_FORMS = {"f32": 0, "bf16": 1, "i8": 2, "i4": 3}
_KINDS = {"F32": 0, "BF16": 1, "F16": 2}
_CHUNK = 32 << 20

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight in the packed memory: where its panels and scales begin, in bytes."""

    name: str
    form: str
    outputs: int
    inputs: int
    panels: int
    offset: int
    scales: int

    @property
    def size(self) -> int:
        """Bytes of the panels."""
        return self.panels * panel_bytes(self.form, self.inputs)


class PackedWeights:
    """All packed weights of a model in one piece of memory.

    `gated` names weights whose rows are gates, then ups, and whose panels take half of each.
    Raises Unsupported for a size that the kernels do not take.
    """

    def __init__(
        self, checkpoint: Checkpoint, sources: Iterable[WeightSource], form: str,
        gated: frozenset[str],
    ) -> None:  # fmt: skip
        self._checkpoint = checkpoint
        self._gated = gated
        self._sources = {source.name: source for source in sources}
        self.weights: dict[str, PackedWeight] = {}
        place = 0
        for source in self._sources.values():
            outputs, inputs = checkpoint.source_shape(source)
            if inputs % 32:
                raise Unsupported(
                    f"{source.name} has {inputs} inputs; the CPU's kernels take multiples of 32"
                )
            rows = outputs
            if source.name in gated:  # gates and ups fill their halves of the last panel each
                half = PANEL // 2
                rows = 2 * ((outputs // 2 + half - 1) // half * half)
            panels = (rows + PANEL - 1) // PANEL
            weight = PackedWeight(source.name, form, outputs, inputs, panels, place, 0)
            scales = weight.offset + weight.size
            place = scales + (4 * panels * PANEL if form == "i8" else 0)
            place = (place + 4095) // 4096 * 4096
            self.weights[source.name] = PackedWeight(
                source.name, form, outputs, inputs, panels, weight.offset, scales
            )
        self.num_bytes = place
        self.bytes = large(place)
        self.address = int(self.bytes.ctypes.data)
        self.from_cache = False

    def fill(self, threads: int, cache: Path | None, progress: Progress | None = None) -> None:
        """Read the packed file, or pack and write it; `cache` is its folder, None for no file."""
        path = cache / f"{self._digest()}.packed" if cache else None
        if path is not None and path.exists() and path.stat().st_size == self.num_bytes:
            self._read(path, threads, progress)
            self.from_cache = True
            return
        self._pack(threads, progress)
        if path is not None:
            self._write(path)

    def row_map(self, name: str) -> NDArray[np.int64]:
        """Which output stands in each row of the panels, -1 for padding."""
        weight = self.weights[name]
        width = PANEL
        rows = np.full(weight.panels * width, -1, np.int64)
        if name not in self._gated:
            rows[: weight.outputs] = np.arange(weight.outputs)
            return rows
        half, inner = width // 2, weight.outputs // 2
        grid = rows.reshape(weight.panels, 2, half)
        number = np.arange(weight.panels * half).reshape(weight.panels, half)
        grid[:, 0] = np.where(number < inner, number, -1)
        grid[:, 1] = np.where(number < inner, number + inner, -1)
        return rows

    # -- making --------------------------------------------------------------------------------

    def _pack(self, threads: int, progress: Progress | None) -> None:
        done = 0
        with ThreadPoolExecutor(threads, thread_name_prefix="inferd-pack") as pool:
            for weight in self.weights.values():
                rows, kind, held = self._rows(weight)
                step = max(1, weight.panels // (4 * threads))
                for task in [
                    pool.submit(self._pack_some, weight, rows, kind, first, step)
                    for first in range(0, weight.panels, step)
                ]:
                    task.result()
                del held
                done += weight.size
                if progress is not None:
                    progress(done, self.num_bytes)

    def _pack_some(
        self, weight: PackedWeight, rows: NDArray[np.int64], kind: int, first: int, step: int
    ) -> None:
        scratch = np.empty(4 * weight.inputs + 128, np.uint8)
        pack_panels(
            _FORMS[weight.form], rows, kind, weight.inputs, panel_bytes(weight.form, weight.inputs),
            self.address + weight.offset, self.address + weight.scales, first,
            min(first + step, weight.panels), scratch.ctypes.data,
        )  # fmt: skip

    def _rows(self, weight: PackedWeight) -> tuple[NDArray[np.int64], int, list[Any]]:
        """The address of each row of the panels, what the rows are made of, and what holds them."""
        source = self._sources[weight.name]
        arrays: list[NDArray[Any]] = []
        dtypes = {self._checkpoint.dtype(part) for part in source.parts}
        if source.transposed or len(dtypes) > 1 or not dtypes <= set(_KINDS):
            arrays, kind = [self._checkpoint.load(source)], 0
        else:
            arrays = [self._checkpoint.tensor(part) for part in source.parts]
            if source.rows is not None:
                arrays = [array[slice(*source.rows)] for array in arrays]
            kind = _KINDS[dtypes.pop()]
        addresses = np.concatenate(
            [a.ctypes.data + np.arange(a.shape[0], dtype=np.int64) * a.strides[0] for a in arrays]
        )
        order = self.row_map(weight.name)
        return np.where(order >= 0, addresses[order], 0), kind, arrays

    # -- the file ------------------------------------------------------------------------------

    def _digest(self) -> str:
        files = sorted(self._checkpoint.model_dir.glob("*.safetensors"))
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        layout = [(w.name, w.form, w.offset, w.scales) for w in self.weights.values()]
        parts = [source.parts for source in self._sources.values()]
        text = json.dumps([LAYOUT, str(self._checkpoint.model_dir), stats, layout, parts])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _read(self, path: Path, threads: int, progress: Progress | None) -> None:
        view = self.bytes.data
        with path.open("rb", buffering=0) as file, ThreadPoolExecutor(threads) as pool:

            def read(first: int) -> int:
                return os.preadv(file.fileno(), [view[first : first + _CHUNK]], first)

            done = 0
            for count in pool.map(read, range(0, self.num_bytes, _CHUNK)):
                done += count
                if progress is not None:
                    progress(done, self.num_bytes)

    def _write(self, path: Path) -> None:
        """A cache that cannot be written is a slower next start, not an error."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            with partial.open("wb") as file:
                file.write(self.bytes.data)
            partial.replace(path)
        except OSError:
            return
