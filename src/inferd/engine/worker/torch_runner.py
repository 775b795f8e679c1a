"""The model runner in plain torch: the reference that every other runner is compared with, and
what runs on CUDA.

It runs any spec: a family has no code here. Only the copy of the logits waits for the device.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inferd.engine.models.spec import DecoderSpec, Layer, WeightSource
from inferd.engine.weights.checkpoint import Checkpoint, check_shapes
from inferd.engine.worker.attention import AttentionBackend, AttentionMetadata, ReferenceAttention
from inferd.engine.worker.base import InputBatch
from inferd.engine.worker.torch_layers import (
    RotaryTable,
    feed_forward,
    linear,
    normed,
    rotated,
    softcap,
)
from inferd.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Angles = dict[int, tuple[Tensor, Tensor]]
"""Cosines and sines of a step, by the number of their rotary embedding."""


class TorchRunner:
    """Runs a spec with a checkpoint's weights, both in `dtype`, on one device.

    Raises ConfigError for an unknown dtype, and BackendError where the checkpoint does not fit the
    spec. See ModelRunner for the methods.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        sources: Iterable[WeightSource],
        checkpoint: Checkpoint,
        *,
        num_blocks: int,
        block_size: int,
        dtype: str = "float32",
        device: str = "cpu",
        attention: AttentionBackend | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"'{dtype}' is none of: {', '.join(DTYPES)}", field="dtype")
        self.spec = spec
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._dtype = DTYPES[dtype]
        self._device = torch.device(device)
        self._attention = attention or ReferenceAttention()
        # Rounded to the dtype, since that is what models were trained with.
        self._embedding_scale = float(torch.tensor(spec.embedding_scale, dtype=self._dtype))
        self._weights, self._layers = self._load(checkpoint, tuple(sources))
        self._cache = [self._new_cache(layer) for layer in spec.layers]
        tables = dict.fromkeys(layer.attention.rotary for layer in spec.layers)
        numbers = {rotary: number for number, rotary in enumerate(tables)}
        self._rotary_of = [numbers[layer.attention.rotary] for layer in spec.layers]
        self._rotary = {n: RotaryTable(r, self._device) for r, n in numbers.items() if r}

    @torch.inference_mode()
    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        """See ModelRunner."""
        meta = AttentionMetadata.of(batch, self._device)
        x = self._embed(torch.from_numpy(batch.token_ids).to(self._device), meta)
        angles = self._angles(meta)
        for index in range(len(self.spec.layers)):
            x = self._layer(index, x, angles, meta)
        x = x[torch.from_numpy(batch.logit_rows).to(self._device)]
        x = normed(x, self._weights, "norm", self.spec.norm)
        head = self._weights["embed" if self.spec.tie_word_embeddings else "lm_head"]
        logits = softcap(functional.linear(x, head).float(), self.spec.final_softcap)
        return logits.cpu().numpy()

    def close(self) -> None:
        """See ModelRunner."""
        self._weights, self._layers, self._cache = {}, [], []

    def describe(self) -> dict[str, Any]:
        """See ModelRunner."""
        held = [*self._weights.values(), *(w for layer in self._layers for w in layer.values())]
        return {
            "runner": "torch",
            "family": self.spec.family,
            "dtype": str(self._dtype).removeprefix("torch."),
            "device": str(self._device),
            "attention": self._attention.name,
            "threads": torch.get_num_threads(),
            "weight_bytes": sum(weight.nbytes for weight in held),
            "kv_cache_bytes": sum(cache.nbytes for cache in self._cache),
        }

    def _load(
        self, checkpoint: Checkpoint, sources: tuple[WeightSource, ...]
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """The model's own weights and those of each layer, by the end of their canonical names."""
        check_shapes(checkpoint, self.spec, sources)
        model: dict[str, Tensor] = {}
        layers: list[dict[str, Tensor]] = [{} for _ in self.spec.layers]
        for source in sources:
            weight = torch.from_numpy(checkpoint.load(source)).to(self._device, self._dtype)
            if source.name.startswith("layers."):
                _, index, name = source.name.split(".", 2)
                layers[int(index)][name] = weight
            else:
                model[source.name] = weight
        return model, layers

    def _new_cache(self, layer: Layer) -> Tensor:
        attention = layer.attention
        shape = (2, self.num_blocks, self.block_size, attention.num_kv_heads, attention.head_dim)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _embed(self, token_ids: Tensor, meta: AttentionMetadata) -> Tensor:
        x = self._weights["embed"][token_ids]
        if self.spec.embedding_scale != 1.0:
            x = x * self._embedding_scale
        if self.spec.learned_positions:
            x = x + self._weights["positions"][meta.positions]
        return x

    def _angles(self, meta: AttentionMetadata) -> Angles:
        tokens = meta.query_start.diff()
        lengths = meta.seq_lens.repeat_interleave(tokens, output_size=len(meta.positions))
        return {n: table.angles(meta.positions, lengths) for n, table in self._rotary.items()}

    def _layer(self, index: int, x: Tensor, angles: Angles, meta: AttentionMetadata) -> Tensor:
        layer, weights, norm = self.spec.layers[index], self._layers[index], self.spec.norm
        new = self._attend(index, normed(x, weights, "input_norm", norm), angles, meta)
        if layer.post_norms:
            new = normed(new, weights, "post_attention_norm", norm)
        x = x + new
        new = feed_forward(normed(x, weights, "mlp_norm", norm), weights, layer.mlp)
        if layer.post_norms:
            new = normed(new, weights, "post_mlp_norm", norm)
        return x + new

    def _attend(self, index: int, x: Tensor, angles: Angles, meta: AttentionMetadata) -> Tensor:
        attention, weights = self.spec.layers[index].attention, self._layers[index]
        heads, groups = attention.num_heads, attention.num_kv_heads
        packed = linear(x, weights, "qkv").view(len(x), -1, attention.head_dim)
        queries, keys, values = packed.tensor_split((heads, heads + groups), 1)
        if attention.qk_norm:
            queries = normed(queries, weights, "q_norm", self.spec.norm)
            keys = normed(keys, weights, "k_norm", self.spec.norm)
        turn = angles.get(self._rotary_of[index])
        if turn is not None:
            queries, keys = rotated(queries, turn), rotated(keys, turn)
        self._attention.write(self._cache[index], keys, values, meta)
        seen = self._attention.attend(queries, self._cache[index], attention, meta)
        return linear(seen.flatten(1), weights, "o")
