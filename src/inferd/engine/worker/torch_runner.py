"""The model runner in torch: the reference that every other runner is compared with, and what runs
on CUDA.

It runs any spec: a family has no code here. A step waits for the device once, at the copy of its
logits.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inferd.engine.models.spec import DecoderSpec, Layer
from inferd.engine.worker.attention import AttentionBackend, AttentionMetadata, best_attention
from inferd.engine.worker.base import InputBatch
from inferd.engine.worker.decode_graphs import Capture, DecodeGraphs, GraphLimits
from inferd.engine.worker.step_inputs import Staging, StepInputs
from inferd.engine.worker.torch_layers import (
    Pieces,
    RotaryTable,
    best_pieces,
    feed_forward,
    linear,
    softcap,
)
from inferd.engine.worker.torch_weights import TorchWeights, torch_dtype

Angles = dict[int, tuple[Tensor, Tensor]]
"""Cosines and sines of a step, by the number of their rotary embedding."""


class TorchRunner:
    """Runs a spec where its weights are, in their dtype.

    `kv_dtype` is that of the weights by default. With `graphs`, steps that only decode are captured
    and replayed; that takes a CUDA device, or another `capture`. Raises ConfigError for an unknown
    dtype. See ModelRunner for the methods.
    """

    def __init__(
        self, spec: DecoderSpec, weights: TorchWeights, *, num_blocks: int, block_size: int,
        kv_dtype: str | None = None, attention: AttentionBackend | None = None,
        pieces: Pieces | None = None, graphs: GraphLimits | None = None,
        capture: Capture | None = None,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._weights = weights
        embed = weights.model["embed"]
        self._dtype, self._device = embed.dtype, embed.device
        self._kv_dtype = torch_dtype(kv_dtype, "kv_cache_dtype") if kv_dtype else self._dtype
        self._attention = attention or best_attention(self._device)
        self._pieces = pieces or best_pieces(self._device)
        # Rounded to the dtype, since that is what models were trained with.
        self._embedding_scale = float(torch.tensor(spec.embedding_scale, dtype=self._dtype))
        scratch_blocks = 1 if graphs is not None else 0
        self._cache = [self._new_cache(layer, num_blocks + scratch_blocks) for layer in spec.layers]
        tables = dict.fromkeys(layer.attention.rotary for layer in spec.layers)
        numbers = {rotary: number for number, rotary in enumerate(tables)}
        self._rotary_of = [numbers[layer.attention.rotary] for layer in spec.layers]
        self._rotary = {n: RotaryTable(r, self._device) for r, n in numbers.items() if r}
        self._staging = Staging(self._device)
        self._host_logits = torch.empty(0)
        self._graphs = None
        if graphs is not None:
            self._graphs = DecodeGraphs(
                self._forward, graphs, block_size=block_size, scratch_block=num_blocks,
                staging=self._staging, device=self._device, capture=capture,
            )  # fmt: skip

    @torch.inference_mode()
    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        """See ModelRunner."""
        if self._graphs is None or not self._graphs.takes(batch):
            return self._to_host(self._forward(self._staging.inputs(batch)))
        logits, rows = self._graphs.run(batch), batch.logit_rows
        if not np.array_equal(rows, np.arange(len(logits))):
            logits = logits[torch.from_numpy(rows).to(self._device)]
        return self._to_host(logits)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Capture all graphs now and not when they are first needed."""
        if self._graphs is not None:
            self._graphs.capture_all()

    def close(self) -> None:
        """See ModelRunner."""
        if self._graphs is not None:
            self._graphs.close()
        self._weights, self._cache, self._graphs = TorchWeights(), [], None

    def describe(self) -> dict[str, Any]:
        """See ModelRunner."""
        return {
            "runner": "torch",
            "family": self.spec.family,
            "dtype": str(self._dtype).removeprefix("torch."),
            "kv_dtype": str(self._kv_dtype).removeprefix("torch."),
            "device": str(self._device),
            "attention": self._attention.name,
            "graphs": self._graphs is not None,
            "threads": torch.get_num_threads(),
            "weight_bytes": sum(weight.nbytes for weight in self._weights.all),
            "kv_cache_bytes": sum(cache.nbytes for cache in self._cache),
        }

    def _new_cache(self, layer: Layer, blocks: int) -> Tensor:
        attention = layer.attention
        shape = (2, blocks, self.block_size, attention.num_kv_heads, attention.head_dim)
        return torch.zeros(shape, dtype=self._kv_dtype, device=self._device)

    def _to_host(self, logits: Tensor) -> NDArray[np.float32]:
        """The step's only wait, into memory that the device can write to by itself."""
        if self._device.type != "cuda":
            return logits.numpy()
        if logits.numel() > len(self._host_logits):
            self._host_logits = torch.empty(logits.numel(), pin_memory=True)
        host = self._host_logits[: logits.numel()].view(logits.shape)
        host.copy_(logits, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return host.numpy()

    def _forward(self, inputs: StepInputs) -> Tensor:
        """The logits of the rows that are wanted, float32; waits for nothing."""
        meta, model = inputs.meta, self._weights.model
        x = self._embed(inputs.token_ids, meta)
        angles = self._angles(meta)
        for index in range(len(self.spec.layers)):
            x = self._layer(index, x, angles, meta)
        x = self._pieces.normed(x[inputs.logit_rows], model, "norm", self.spec.norm)
        head = model["embed" if self.spec.tie_word_embeddings else "lm_head"]
        return softcap(functional.linear(x, head).float(), self.spec.final_softcap)

    def _embed(self, token_ids: Tensor, meta: AttentionMetadata) -> Tensor:
        x = self._weights.model["embed"][token_ids]
        if self.spec.embedding_scale != 1.0:
            x = x * self._embedding_scale
        if self.spec.learned_positions:
            x = x + self._weights.model["positions"][meta.positions]
        return x

    def _angles(self, meta: AttentionMetadata) -> Angles:
        lengths = meta.seq_lens
        if meta.most_queries > 1:
            tokens = meta.query_start.diff()
            lengths = lengths.repeat_interleave(tokens, output_size=len(meta.positions))
        return {n: table.angles(meta.positions, lengths) for n, table in self._rotary.items()}

    def _layer(self, index: int, x: Tensor, angles: Angles, meta: AttentionMetadata) -> Tensor:
        layer, weights, norm = self.spec.layers[index], self._weights.layers[index], self.spec.norm
        normed = self._pieces.normed
        new = self._attend(index, normed(x, weights, "input_norm", norm), angles, meta)
        if layer.post_norms:
            new = normed(new, weights, "post_attention_norm", norm)
        x = x + new
        new = normed(x, weights, "mlp_norm", norm)
        new = feed_forward(new, weights, layer.mlp, self._pieces)
        if layer.post_norms:
            new = normed(new, weights, "post_mlp_norm", norm)
        return x + new

    def _attend(self, index: int, x: Tensor, angles: Angles, meta: AttentionMetadata) -> Tensor:
        attention, weights = self.spec.layers[index].attention, self._weights.layers[index]
        heads, turning = attention.num_heads, attention.num_heads + attention.num_kv_heads
        packed = linear(x, weights, "qkv").view(len(x), -1, attention.head_dim)
        both, values = packed[:, :turning], packed[:, turning:]
        if attention.qk_norm:
            queries = self._pieces.normed(both[:, :heads], weights, "q_norm", self.spec.norm)
            keys = self._pieces.normed(both[:, heads:], weights, "k_norm", self.spec.norm)
            both = torch.cat((queries, keys), 1)
        turn = angles.get(self._rotary_of[index])
        if turn is not None:
            both = self._pieces.rotated(both, turn)
        self._attention.write(self._cache[index], both[:, heads:], values, meta)
        seen = self._attention.attend(both[:, :heads], self._cache[index], attention, meta)
        return linear(seen.flatten(1), weights, "o")
