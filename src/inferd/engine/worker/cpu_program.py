"""A DecoderSpec as a program for the CPU's kernels: which operations, on which buffers.

It knows shapes and addresses and nothing of requests, files or threads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferd.engine.kernels.attention import Attention as AttentionWord
from inferd.engine.kernels.attention import most_items, scratch_bytes
from inferd.engine.kernels.elementwise import BLOCK, AddNorm, Embed, Form, Kind, Norm, Rotate
from inferd.engine.kernels.emit import HAS_BF16
from inferd.engine.kernels.linear import SCRATCH_BYTES, Linear, Mode
from inferd.engine.kernels.linear_i4 import sums_bytes
from inferd.engine.kernels.program import Code, Kernel, aligned, float_bits, large, operation
from inferd.engine.models.spec import DecoderSpec, Layer, Rotary

LINEAR = {
    "i8": Code.LINEAR_I8, "i4": Code.LINEAR_I4, "bf16": Code.LINEAR_BF16, "f32": Code.LINEAR_F32,
}  # fmt: skip
KV_KIND = {"f32": Kind.F32, "bf16": Kind.BF16, "i8": Kind.I8}
OPERAND_BYTES = {Form.F32: 4, Form.BF16: 2, Form.I8: 1, Form.I8_GROUPS: 1}
KV_BYTES = {"f32": 4, "bf16": 2, "i8": 1}
GATED = {"silu": Mode.SILU, "gelu_tanh": Mode.GELU_TANH, "gelu": Mode.GELU}
PLAIN = {"silu": Mode.PLAIN_SILU, "gelu_tanh": Mode.PLAIN_GELU_TANH, "gelu": Mode.PLAIN_GELU}


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed weight in memory: addresses of panels, scales (0: none) and bias (0: none)."""

    form: str
    outputs: int
    inputs: int
    panels: int
    address: int
    scales: int = 0
    bias: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one step brings, and what the cache holds."""

    tokens: int
    sequences: int
    model_len: int
    num_blocks: int
    threads: int
    kv: str


class Weights:
    """Where a program finds its weights: products by name, vectors (float32) by name."""

    def __init__(self) -> None:
        self.products: dict[str, Packed] = {}
        self.vectors: dict[str, NDArray[np.float32]] = {}
        self.embedding: tuple[int, Kind] = (0, Kind.F32)

    def vector(self, name: str) -> int:
        """The address of a vector, 0 if there is none."""
        found = self.vectors.get(name)
        return 0 if found is None else found.ctypes.data


class StepBuffers:
    """The arrays that a step's operations read and write; `keep` holds all of them."""

    def __init__(self, spec: DecoderSpec, limits: Limits, form: str) -> None:
        tokens = limits.tokens
        width = max(limits.model_len // BLOCK + 2, 1)
        self.keep: list[NDArray[Any]] = []
        self.tokens = self._array(tokens, np.int32)
        self.positions = self._array(tokens, np.int32)
        self.slots = self._array(tokens, np.int32)
        self.lengths = self._array(tokens, np.int32)
        self.picks = self._array(tokens, np.int32)
        self.tables = self._array((limits.sequences, width), np.int32)
        self.counts = self._array(8, np.int64)
        """Tokens, picked rows, attention items, attention items of picked rows."""
        layers = spec.layers
        hidden = spec.hidden_size
        group = max(a.attention.num_heads // a.attention.num_kv_heads for a in layers)
        kv_heads = max(a.attention.num_kv_heads for a in layers)
        attended = max(a.attention.num_heads * a.attention.head_dim for a in layers)
        qkv = max(
            (a.attention.num_heads + 2 * a.attention.num_kv_heads) * a.attention.head_dim
            for a in layers
        )
        inner = max(a.mlp.intermediate_size for a in layers)
        widest = max(hidden, attended, padded(inner))
        self.items = self._array(
            (most_items(tokens, limits.sequences, kv_heads, group), 4), np.int32
        )
        self.picked_items = self._array((tokens * kv_heads, 4), np.int32)
        self.x = self._array((tokens, padded(hidden)), np.float32)
        self.picked_x = self._array((tokens, padded(hidden)), np.float32)
        self.y = self._array((tokens, padded(hidden)), np.float32)
        self.qkv = self._array((tokens, padded(qkv)), np.float32)
        self.attended = self._array((tokens, padded(attended)), np.float32)
        self.inner = self._array((tokens, padded(inner)), np.float32)
        # A cache line more than a row: rows a power of two apart would share few sets of a cache.
        self.operand = self._array((tokens, OPERAND_BYTES[form_of(form)] * widest + 64), np.uint8)
        self.scales = self._array(tokens, np.float32)
        self.sums = self._array((tokens, sums_bytes(widest) // 4), np.int32)
        self.logits = self._array((tokens, padded(spec.vocab_size)), np.float32)
        self.linear_scratch = self._array((limits.threads, SCRATCH_BYTES), np.uint8)
        self.norm_scratch = self._array((limits.threads, widest), np.float32)
        dim = max(a.attention.head_dim for a in layers)
        self.attention_scratch_bytes = scratch_bytes(dim, group)
        self.attention_scratch = self._array(
            (limits.threads, self.attention_scratch_bytes), np.uint8
        )

    def _array(self, shape: Any, dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: NDArray[Any] = aligned(size).view(dtype).reshape(shape)
        self.keep.append(array)
        return array


class KVCache:
    """Keys and values of all layers; see `kernels.attention` for how a layer's lie."""

    def __init__(self, spec: DecoderSpec, limits: Limits) -> None:
        self.kind = KV_KIND[limits.kv]
        self.layers: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
        self.scales: list[tuple[NDArray[np.uint8], NDArray[np.uint8]] | None] = []
        for layer in spec.layers:
            heads, dim = layer.attention.num_kv_heads, layer.attention.head_dim
            slots = limits.num_blocks * BLOCK * heads
            size = slots * dim * KV_BYTES[limits.kv]
            self.layers.append((large(size), large(size)))
            scaled = self.kind is Kind.I8
            self.scales.append((large(4 * slots), large(4 * slots)) if scaled else None)

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole cache."""
        scales = [array for pair in self.scales if pair for array in pair]
        return sum(array.nbytes for pair in self.layers for array in pair) + sum(
            array.nbytes for array in scales
        )


class ProgramBuilder:
    """Writes the operations of a step, in order."""

    def __init__(
        self, spec: DecoderSpec, weights: Weights, buffers: StepBuffers, cache: KVCache,
        limits: Limits,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._weights = weights
        self._buffers = buffers
        self._cache = cache
        self._limits = limits
        self._operations: list[NDArray[np.int64]] = []
        self._angles: dict[tuple[float, ...], NDArray[np.float32]] = {}
        self.names: list[str] = []
        self.body = 0
        """Operations before those that make logits."""

    def build(self) -> NDArray[np.int64]:
        """The program [operations, WORDS]."""
        self._embed()
        for number, layer in enumerate(self._spec.layers):
            self._layer(number, layer)
        self.body = len(self._operations)
        b = self._buffers
        head = self._weights.products["lm_head"]
        operand = self._norm("norm", b.picked_x, head, rows=1)
        self._product(head, operand, b.logits, Mode.STORE, rows=1, name="lm_head")
        return np.stack(self._operations)

    def _add(self, name: str, kernel: Kernel, words: dict[Any, int]) -> None:
        self._operations.append(operation(kernel, words))
        self.names.append(name)

    def _count(self, index: int) -> int:
        return self._buffers.counts.ctypes.data + 8 * index

    def _embed(self) -> None:
        b, spec = self._buffers, self._spec
        table, kind = self._weights.embedding
        self._add("embed", Code.EMBED, {
            Embed.ROWS: self._count(0), Embed.TOKENS: b.tokens.ctypes.data, Embed.TABLE: table,
            Embed.KIND: kind, Embed.SIZE: spec.hidden_size,
            Embed.SCALE: float_bits(spec.embedding_scale), Embed.OUT: b.x.ctypes.data,
            Embed.STRIDE: b.x.strides[0], Embed.POSITIONS: b.positions.ctypes.data,
            Embed.POSITION_TABLE: self._weights.vector("positions"),
        })  # fmt: skip

    def _layer(self, number: int, layer: Layer) -> None:
        """A layer. Of the last one, only rows whose logits are wanted need more than their keys
        and values."""
        b, weights = self._buffers, self._weights
        prefix = f"layers.{number}."
        qkv, out = weights.products[prefix + "qkv"], weights.products[prefix + "o"]
        operand = self._norm(prefix + "input_norm", b.x, qkv)
        self._product(qkv, operand, b.qkv, Mode.STORE, name="qkv")
        self._rotate(number, layer)
        size = layer.attention.num_heads * layer.attention.head_dim
        x, attended, rows = b.x, b.attended, 0
        if number == len(self._spec.layers) - 1:
            self._attend(number, layer, b.picked_items, 3)
            # The queries have been used, so their place is free.
            x, attended, rows = b.picked_x, b.qkv, 1
            self._pick(b.x, x, self._spec.hidden_size)
            self._pick(b.attended, attended, size)
        else:
            self._attend(number, layer, b.items, 2)
        operand = self._convert(attended, out, size, rows)
        self._residual(prefix + "post_attention_norm", out, operand, x, rows, layer, "o")
        gate_up, down = weights.products[prefix + "gate_up"], weights.products[prefix + "down"]
        operand = self._norm(prefix + "mlp_norm", x, gate_up, rows)
        mode = (GATED if layer.mlp.gated else PLAIN)[layer.mlp.activation]
        self._product(gate_up, operand, b.inner, mode, name="gate_up", rows=rows)
        operand = self._convert(b.inner, down, layer.mlp.intermediate_size, rows)
        self._residual(prefix + "post_mlp_norm", down, operand, x, rows, layer, "down")

    def _residual(
        self, norm: str, weight: Packed, operand: NDArray[Any], x: NDArray[Any], rows: int,
        layer: Layer, name: str,
    ) -> None:  # fmt: skip
        """x += weight(operand), through a norm where the family has one there."""
        b = self._buffers
        if not layer.post_norms:
            self._product(weight, operand, x, Mode.ADD, name=name, rows=rows)
            return
        self._product(weight, operand, b.y, Mode.STORE, name=name, rows=rows)
        self._add("add_norm", Code.ADD_NORM, {
            AddNorm.ROWS: self._count(rows), AddNorm.X: b.y.ctypes.data,
            AddNorm.X_STRIDE: b.y.strides[0], AddNorm.WEIGHT: self._weights.vector(norm),
            AddNorm.BIAS: self._weights.vector(norm + ".bias"),
            AddNorm.EPS: float_bits(self._spec.norm.eps), AddNorm.SIZE: self._spec.hidden_size,
            AddNorm.OUT: x.ctypes.data, AddNorm.OUT_STRIDE: x.strides[0],
            AddNorm.SCRATCH: b.norm_scratch.ctypes.data,
        })  # fmt: skip

    def _norm(self, name: str, x: NDArray[Any], target: Packed, rows: int = 0) -> NDArray[Any]:
        return self._converted(x, target, self._spec.hidden_size, name, rows)

    def _pick(self, x: NDArray[Any], out: NDArray[Any], size: int) -> None:
        """The picked rows of x, one behind the other."""
        b = self._buffers
        self._add("pick", Code.NORM, {
            Norm.ROWS: self._count(1), Norm.X: x.ctypes.data, Norm.X_STRIDE: x.strides[0],
            Norm.SIZE: size, Norm.OUT: out.ctypes.data, Norm.OUT_STRIDE: out.strides[0],
            Norm.FORM: Form.F32, Norm.PICK: b.picks.ctypes.data,
        })  # fmt: skip

    def _convert(self, x: NDArray[Any], target: Packed, size: int, rows: int) -> NDArray[Any]:
        """The operand of a product; x itself where it takes float32."""
        return x if form_of(target.form) is Form.F32 else self._converted(x, target, size, "", rows)

    def _converted(
        self, x: NDArray[Any], target: Packed, size: int, name: str, rows: int
    ) -> NDArray[Any]:
        b = self._buffers
        self._add("norm" if name else "convert", Code.NORM, {
            Norm.ROWS: self._count(rows), Norm.X: x.ctypes.data, Norm.X_STRIDE: x.strides[0],
            Norm.WEIGHT: self._weights.vector(name) if name else 0,
            Norm.BIAS: self._weights.vector(name + ".bias") if name else 0,
            Norm.EPS: float_bits(self._spec.norm.eps), Norm.SIZE: size,
            Norm.OUT: b.operand.ctypes.data, Norm.OUT_STRIDE: b.operand.strides[0],
            Norm.SCALES: b.scales.ctypes.data, Norm.SUMS: b.sums.ctypes.data,
            Norm.FORM: form_of(target.form), Norm.SCRATCH: b.norm_scratch.ctypes.data,
        })  # fmt: skip
        return b.operand

    def _product(
        self, weight: Packed, x: NDArray[Any], y: NDArray[Any], mode: Mode, name: str, rows: int = 0
    ) -> None:
        b = self._buffers
        integer = weight.form in ("i8", "i4")
        self._add(name, LINEAR[weight.form], {
            Linear.ROWS: self._count(rows), Linear.X: x.ctypes.data, Linear.X_STRIDE: x.strides[0],
            Linear.X_SCALES: b.scales.ctypes.data if integer else 0,
            Linear.X_SUMS: b.sums.ctypes.data, Linear.WEIGHTS: weight.address,
            Linear.W_SCALES: weight.scales, Linear.BIAS: weight.bias, Linear.PANELS: weight.panels,
            Linear.INPUTS: weight.inputs, Linear.Y: y.ctypes.data, Linear.Y_STRIDE: y.strides[0],
            Linear.MODE: mode, Linear.SHARE: share(weight.panels, self._limits.threads),
            Linear.SCRATCH: b.linear_scratch.ctypes.data,
        })  # fmt: skip

    def _rotate(self, number: int, layer: Layer) -> None:
        b, a = self._buffers, layer.attention
        keys, values = self._cache.layers[number]
        scales = self._cache.scales[number]
        prefix = f"layers.{number}."
        words: dict[Any, int] = {
            Rotate.ROWS: self._count(0), Rotate.QKV: b.qkv.ctypes.data,
            Rotate.STRIDE: b.qkv.strides[0], Rotate.HEADS: a.num_heads,
            Rotate.KV_HEADS: a.num_kv_heads, Rotate.HEAD_DIM: a.head_dim,
            Rotate.Q_NORM: self._weights.vector(prefix + "q_norm"),
            Rotate.K_NORM: self._weights.vector(prefix + "k_norm"),
            Rotate.EPS: float_bits(self._spec.norm.eps),
            Rotate.POSITIONS: b.positions.ctypes.data, Rotate.SLOTS: b.slots.ctypes.data,
            Rotate.K_CACHE: keys.ctypes.data, Rotate.V_CACHE: values.ctypes.data,
            Rotate.KIND: self._cache.kind, Rotate.SCALE: float_bits(a.scale),
            Rotate.K_SCALES: scales[0].ctypes.data if scales else 0,
            Rotate.V_SCALES: scales[1].ctypes.data if scales else 0,
        }  # fmt: skip
        if a.rotary is not None:
            words[Rotate.HALF] = len(a.rotary.inv_freq)
            words[Rotate.ANGLES] = self._angle_table(a.rotary.inv_freq, a.rotary)
            if a.rotary.long_from:
                words[Rotate.LONG_ANGLES] = self._angle_table(a.rotary.long_inv_freq, a.rotary)
                words[Rotate.LONG_FROM] = a.rotary.long_from
                words[Rotate.LENGTHS] = b.lengths.ctypes.data
        self._add("rotate", Code.ROTATE, words)

    def _angle_table(self, inv_freq: tuple[float, ...], rotary: Rotary) -> int:
        key = (*inv_freq, rotary.attention_factor)
        table = self._angles.get(key)
        if table is None:
            angles = np.outer(np.arange(self._limits.model_len), np.array(inv_freq))
            both = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rotary.attention_factor
            table = self._angles[key] = np.ascontiguousarray(both, np.float32)
            self._buffers.keep.append(table)
        return int(table.ctypes.data)

    def _attend(self, number: int, layer: Layer, items: NDArray[Any], count: int) -> None:
        b, a = self._buffers, layer.attention
        keys, values = self._cache.layers[number]
        scales = self._cache.scales[number]
        word = AttentionWord
        self._add("attend", Code.ATTEND, {
            word.ITEMS_COUNT: self._count(count), word.ITEMS: items.ctypes.data,
            word.QKV: b.qkv.ctypes.data, word.STRIDE: b.qkv.strides[0], word.HEADS: a.num_heads,
            word.KV_HEADS: a.num_kv_heads, word.HEAD_DIM: a.head_dim,
            word.K_CACHE: keys.ctypes.data, word.V_CACHE: values.ctypes.data,
            word.KIND: self._cache.kind, word.TABLES: b.tables.ctypes.data,
            word.TABLE_WIDTH: b.tables.shape[1], word.POSITIONS: b.positions.ctypes.data,
            word.OUT: b.attended.ctypes.data, word.OUT_STRIDE: b.attended.strides[0],
            word.SCRATCH: b.attention_scratch.ctypes.data,
            word.SCRATCH_STRIDE: b.attention_scratch_bytes, word.WINDOW: a.window,
            word.SOFTCAP: float_bits(a.softcap),
            word.K_SCALES: scales[0].ctypes.data if scales else 0,
            word.V_SCALES: scales[1].ctypes.data if scales else 0,
        })  # fmt: skip


def form_of(weights: str) -> Form:
    """How a product with weights of that form wants its rows."""
    if weights == "i8":
        return Form.I8
    if weights == "i4":
        return Form.I8_GROUPS
    return Form.BF16 if weights == "bf16" and HAS_BF16 else Form.F32


def padded(size: int) -> int:
    """A row's elements, so that a panel's outputs always fit."""
    return (size + 63) // 64 * 64


def share(panels: int, threads: int) -> int:
    """Panels that a thread takes at once: some shares for each, so that none waits long."""
    return max(1, panels // (threads * 8))
