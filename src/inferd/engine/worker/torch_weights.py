"""A model's weights in torch, on one device, by their canonical names."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inferd.engine.models.shapes import weight_shapes
from inferd.engine.models.spec import DecoderSpec, WeightSource
from inferd.engine.weights.checkpoint import Checkpoint, check_shapes
from inferd.errors import ConfigError

if TYPE_CHECKING:  # it brings the CPU's kernels with it
    from inferd.engine.weights.packed import Progress

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_IN_FILES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

MEMORY_SHARE = 0.9
"""Of the device's free memory, what a KV cache may take; the rest is for a step's activations."""


def torch_dtype(name: str, field: str = "dtype") -> torch.dtype:
    """The dtype of that name. Raises ConfigError for one that is not known."""
    if name not in DTYPES:
        raise ConfigError(f"'{name}' is none of: {', '.join(DTYPES)}", field=field)
    return DTYPES[name]


@dataclasses.dataclass(slots=True)
class TorchWeights:
    """The model's own weights, and those of each layer by the end of their names (`qkv.bias`)."""

    model: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    layers: list[dict[str, Tensor]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, weights: Iterable[tuple[str, Tensor]], num_layers: int) -> "TorchWeights":
        """Weights with their canonical names."""
        made = cls({}, [{} for _ in range(num_layers)])
        for name, weight in weights:
            if name.startswith("layers."):
                _, index, rest = name.split(".", 2)
                made.layers[int(index)][rest] = weight
            else:
                made.model[name] = weight
        return made

    @property
    def all(self) -> list[Tensor]:
        """Every weight."""
        return [*self.model.values(), *(w for layer in self.layers for w in layer.values())]


def load_weights(
    spec: DecoderSpec, sources: Iterable[WeightSource], checkpoint: Checkpoint, *,
    dtype: str = "float32", device: str = "cpu", progress: "Progress | None" = None,
) -> TorchWeights:  # fmt: skip
    """Read a checkpoint. `progress` is told bytes on the device and bytes in all. Raises
    ConfigError for an unknown dtype, and BackendError where the checkpoint does not fit."""
    sources, wanted = tuple(sources), torch_dtype(dtype)
    check_shapes(checkpoint, spec, sources)
    total = weight_bytes(spec, dtype)

    def read() -> Iterator[tuple[str, Tensor]]:
        done = 0
        for source in sources:
            weight = _read(checkpoint, source).to(device).to(wanted)
            yield source.name, weight
            done += weight.nbytes
            if progress is not None:
                progress(done, total)

    return TorchWeights.of(read(), len(spec.layers))


def _read(checkpoint: Checkpoint, source: WeightSource) -> Tensor:
    """A weight on the host, in the checkpoint's own dtype where torch has it: less to copy."""
    dtypes = {checkpoint.dtype(part) for part in source.parts}
    dtype = _IN_FILES.get(dtypes.pop()) if len(dtypes) == 1 else None
    if dtype is None:
        return torch.from_numpy(checkpoint.load(source))
    raw, _ = checkpoint.load_raw(source)
    weight = torch.empty(raw.shape, dtype=dtype)
    bits = weight.view(torch.uint16) if dtype == torch.bfloat16 else weight
    bits.numpy()[...] = raw
    return weight


def weight_bytes(spec: DecoderSpec, dtype: str) -> int:
    """Bytes of all weights in `dtype`."""
    numbers = sum(math.prod(shape) for shape in weight_shapes(spec).values())
    return numbers * torch_dtype(dtype).itemsize


def cache_block_bytes(spec: DecoderSpec, dtype: str, block_size: int) -> int:
    """Bytes of one block of the KV cache, in all layers."""
    numbers = sum(2 * a.attention.num_kv_heads * a.attention.head_dim for a in spec.layers)
    return numbers * block_size * torch_dtype(dtype, "kv_cache_dtype").itemsize


def blocks_that_fit(
    spec: DecoderSpec, *, block_size: int, kv_dtype: str, device: str, reserved_bytes: int = 0,
) -> int:  # fmt: skip
    """How many blocks of KV cache fit into a CUDA device's free memory, less `reserved_bytes`: 0
    once the weights are loaded, `weight_bytes` before."""
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    # What the allocator holds and nobody uses is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return share_of(free - reserved_bytes, cache_block_bytes(spec, kv_dtype, block_size))


def share_of(free_bytes: int, block_bytes: int) -> int:
    """How many blocks may be made in that memory."""
    return max(0, int(free_bytes * MEMORY_SHARE) // block_bytes)
