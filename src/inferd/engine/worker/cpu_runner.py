"""Runs a model on the CPU: packed weights, a paged cache and a team of threads. No torch."""

import mmap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferd.engine.kernels.attention import plan_items, plan_picked_items
from inferd.engine.kernels.elementwise import BLOCK, Kind
from inferd.engine.kernels.emit import HAS_AVX512, HAS_BF16, HAS_VNNI
from inferd.engine.kernels.program import Team
from inferd.engine.models.spec import DecoderSpec, WeightSource
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.weights.packed import PackedWeights, Progress
from inferd.engine.worker.base import InputBatch
from inferd.engine.worker.cpu_program import (
    KVCache,
    Limits,
    Packed,
    ProgramBuilder,
    StepBuffers,
    Weights,
)
from inferd.errors import Unsupported

PRODUCTS = ("qkv", "o", "gate_up", "down")
_TABLE_KINDS = {"F32": Kind.F32, "BF16": Kind.BF16, "F16": Kind.F16}


class CpuRunner:
    """A ModelRunner of one model in one form of weights ("i8", "i4", "bf16", "f32")."""

    block_size = BLOCK

    def __init__(
        self, spec: DecoderSpec, sources: Iterable[WeightSource], checkpoint: Checkpoint,
        form: str, limits: Limits, cache: Path | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        _check(spec)
        self.num_blocks = limits.num_blocks
        self._spec = spec
        self._limits = limits
        self._form = form
        by_name = {source.name: source for source in sources}
        self._weights = Weights()
        self._held: list[Any] = [checkpoint]
        self._load_table(checkpoint, by_name["embed"])
        self._packed = PackedWeights(
            checkpoint, _products(by_name), form,
            frozenset(f"layers.{n}.gate_up" for n, a in enumerate(spec.layers) if a.mlp.gated),
        )  # fmt: skip
        self._packed.fill(limits.threads, cache, progress)
        self._place_products()
        self._load_vectors(checkpoint, by_name)
        self._buffers = StepBuffers(spec, limits, form)
        self.cache = KVCache(spec, limits)
        builder = ProgramBuilder(spec, self._weights, self._buffers, self.cache, limits)
        self.program = builder.build()
        self._body = builder.body
        self.operations = builder.names
        self.team = Team(limits.threads, len(self.program))
        attention = spec.layers[0].attention
        self._kv_heads = attention.num_kv_heads
        self._group = attention.num_heads // attention.num_kv_heads

    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        """Run a step; see ModelRunner."""
        b = self._buffers
        tokens, picked = len(batch.token_ids), len(batch.logit_rows)
        b.tokens[:tokens] = batch.token_ids
        b.positions[:tokens] = batch.positions
        b.slots[:tokens] = batch.slot_mapping
        rows, width = batch.block_tables.shape
        b.tables[:rows, :width] = batch.block_tables
        b.picks[:picked] = batch.logit_rows
        new = np.diff(batch.query_start)
        b.lengths[:tokens] = np.repeat(batch.seq_lens, new)
        items = plan_items(batch.query_start, self._kv_heads, self._group, b.items)
        picked_items = plan_picked_items(
            batch.query_start, batch.logit_rows, self._kv_heads, self._group, b.picked_items
        )
        b.counts[:4] = (tokens, picked, items, picked_items)
        self.team.run(self.program, len(self.program) if picked else self._body)
        logits = b.logits[:picked, : self._spec.vocab_size]
        if self._spec.final_softcap:
            cap = np.float32(self._spec.final_softcap)
            np.tanh(np.divide(logits, cap, out=logits), out=logits)
            logits *= cap
        return logits

    def close(self) -> None:
        """End the threads; memory goes back with the object."""
        self.team.close()

    def describe(self) -> dict[str, Any]:
        """What was chosen."""
        return {
            "device": "cpu",
            "weights": self._form,
            "weight_bytes": self._packed.num_bytes,
            "packed_from_cache": self._packed.from_cache,
            "kv_cache": self._limits.kv,
            "kv_bytes": self.cache.size_bytes,
            "threads": self._limits.threads,
            "avx512": HAS_AVX512,
            "vnni": HAS_VNNI,
            "bf16": HAS_BF16,
        }

    # -- loading -------------------------------------------------------------------------------

    def _load_table(self, checkpoint: Checkpoint, source: WeightSource) -> None:
        """The embedding stays where it is, in the mapped checkpoint: a step reads a few rows. Each
        would wait for the disk, so all are touched once."""
        dtype = checkpoint.dtype(source.parts[0])
        plain = len(source.parts) == 1 and not source.transposed and dtype in _TABLE_KINDS
        table = checkpoint.tensor(source.parts[0]) if plain else checkpoint.load(source)
        if plain and source.rows is not None:
            table = table[slice(*source.rows)]
        table[:, :: mmap.PAGESIZE // table.itemsize].max()
        self._held.append(table)
        self._weights.embedding = (
            table.ctypes.data, _TABLE_KINDS[dtype] if plain else Kind.F32
        )  # fmt: skip

    def _place_products(self) -> None:
        packed = self._packed
        for name, w in packed.weights.items():
            self._weights.products[name] = Packed(
                w.form, w.outputs, w.inputs, w.panels, packed.address + w.offset,
                packed.address + w.scales if w.form == "i8" else 0,
            )  # fmt: skip

    def _load_vectors(self, checkpoint: Checkpoint, sources: dict[str, WeightSource]) -> None:
        products = self._weights.products
        for name, source in sources.items():
            if name in products or name in ("embed", "lm_head"):
                continue
            values = checkpoint.load(source)
            target = name.removesuffix(".bias")
            if target in products:
                order = self._packed.row_map(target)
                values = np.where(order >= 0, values[order], 0).astype(np.float32)
                products[target] = replace(products[target], bias=values.ctypes.data)
                self._held.append(values)
                continue
            if name.endswith("norm"):
                values += np.float32(self._spec.norm.offset)
            self._weights.vectors[name] = np.ascontiguousarray(values, np.float32)


def _check(spec: DecoderSpec) -> None:
    """Raise Unsupported for sizes that the kernels do not take."""
    for layer in spec.layers:
        if layer.attention.head_dim % 16:
            raise Unsupported(
                f"attention heads of {layer.attention.head_dim} numbers: the CPU's kernels take "
                "multiples of 16"
            )


def _products(sources: dict[str, WeightSource]) -> list[WeightSource]:
    """The weights of matrix products; a tied head is the embedding once more."""
    found = [source for name, source in sources.items() if name.rsplit(".", 1)[-1] in PRODUCTS]
    head = sources.get("lm_head") or sources["embed"]
    return [*found, replace(head, name="lm_head")]
