"""From a model's folder to an EngineCore: what `auto` becomes, and how much memory the cache gets.

What is decided is decided by pure functions that say why; `load_core` does what they say.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from inferd.config.engine import EngineConfig
from inferd.engine.core import EngineCore
from inferd.engine.models.registry import describe
from inferd.engine.models.spec import DecoderSpec, WeightSource
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.text.extra import needs_extra
from inferd.engine.weights.checkpoint import Checkpoint, check_shapes
from inferd.engine.weights.packed import Progress
from inferd.engine.worker.base import ModelRunner
from inferd.errors import ConfigError
from inferd.observability.machine import free_memory_bytes, physical_cores

FORMS = {"float32": "f32", "bfloat16": "bf16", "int8": "i8", "int4": "i4"}
"""The configuration's words, and how weights and cache are called where they are packed."""

BLOCK_SIZE = 32
"""Tokens of a block on the CPU."""

CUDA_BLOCK_SIZE = 16

MEMORY_SHARE = {"cpu": 0.5, "cuda": 0.9}
"""Of the device's free memory, what a cache may take that nobody set a size for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the configuration leaves open, decided, with a line of why for each."""

    device: str
    weights: str
    kv: str
    max_model_len: int
    num_blocks: int
    threads: int
    why: tuple[str, ...]


def choose(
    config: EngineConfig, spec: DecoderSpec, checkpoint_dtype: str, free_bytes: int, cores: int,
    block_size: int, device: str = "cpu",
) -> Choice:  # fmt: skip
    """Resolve every `auto`; `free_bytes` are free on the device once the weights are there. Raises
    ConfigError for what cannot be."""
    why = []
    if device == "cuda" and config.quantization is not None:
        raise ConfigError(
            f"{config.quantization} is made for the CPU; leave it out, or set device: cpu",
            field="quantization",
        )
    dtype = config.dtype
    if dtype == "auto":
        dtype = "float32" if checkpoint_dtype == "F32" else "bfloat16"
        why.append(f"dtype {dtype}: the checkpoint has {checkpoint_dtype}")
    weights = config.quantization or dtype
    kv = config.kv_cache_dtype
    if kv == "auto":
        kv = "float32" if weights == "float32" else "bfloat16"
        why.append(f"kv_cache_dtype {kv}: as the weights")
    length = config.max_model_len or spec.max_position
    if length > spec.max_position:
        raise ConfigError(
            f"{length} is more than the model's own {spec.max_position}", field="max_model_len"
        )
    block_bytes = kv_block_bytes(spec, FORMS[kv], block_size)
    wanted = config.max_num_seqs * math.ceil(length / block_size)
    if config.kv_cache_memory_bytes is not None:
        num_blocks = min(wanted, config.kv_cache_memory_bytes // block_bytes)
    else:
        num_blocks = min(wanted, int(free_bytes * MEMORY_SHARE[device]) // block_bytes)
        why.append(
            f"KV cache of {num_blocks * block_bytes / 2**20:.0f} MiB: {num_blocks} of {wanted} "
            f"blocks that {config.max_num_seqs} sequences of {length} tokens could use"
        )
    if num_blocks < 2:
        raise ConfigError(
            f"the KV cache gets no room: a block of {block_size} tokens takes {block_bytes} bytes",
            field="kv_cache_memory_bytes",
        )
    if length > num_blocks * block_size:
        why.append(f"sequences end at {num_blocks * block_size} tokens, where the cache is full")
    threads = config.threads or cores
    return Choice(device, weights, kv, length, num_blocks, threads, tuple(why))


def kv_block_bytes(spec: DecoderSpec, kv: str, block_size: int) -> int:
    """Bytes of one block in all layers."""
    element = {"f32": 4, "bf16": 2, "i8": 1}[kv]
    total = 0
    for layer in spec.layers:
        a = layer.attention
        total += 2 * a.num_kv_heads * (a.head_dim * element + (4 if kv == "i8" else 0))
    return total * block_size


def load_core(
    model_dir: Path, config: EngineConfig, progress: Progress | None = None
) -> tuple[EngineCore, DecoderSpec, Choice]:
    """Load a model. Raises ConfigError, Unsupported or BackendError with what to do."""
    checkpoint = Checkpoint(model_dir)
    spec, sources = describe(model_dir, checkpoint.names())
    check_shapes(checkpoint, spec, sources)
    embed = next(source for source in sources if source.name == "embed")
    dtype = checkpoint.dtype(embed.parts[0])
    if _device(config) == "cuda":
        runner, choice = _cuda_runner(checkpoint, spec, sources, config, dtype, progress)
    else:
        free = free_memory_bytes()
        choice = choose(config, spec, dtype, free, physical_cores(), BLOCK_SIZE)
        runner = _cpu_runner(checkpoint, spec, sources, config, choice, progress)
    options = SchedulerOptions(
        max_model_len=choice.max_model_len,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=max(config.max_num_batched_tokens, config.max_num_seqs),
        max_partial_prefills=config.max_num_partial_prefills,
        inter_token_target_s=config.inter_token_target_ms / 1000,
        max_waiting_requests=config.max_num_queued_reqs,
        max_waiting_prompt_tokens=config.max_num_queued_tokens,
    )
    core = EngineCore(
        runner, spec.vocab_size, spec.eos_token_ids, options, config.enable_prefix_caching,
        fingerprint=hashlib.blake2b(str(model_dir.resolve()).encode()).hexdigest(),
    )  # fmt: skip
    return core, spec, choice


def _cpu_runner(
    checkpoint: Checkpoint, spec: DecoderSpec, sources: tuple[WeightSource, ...],
    config: EngineConfig, choice: Choice, progress: Progress | None,
) -> ModelRunner:  # fmt: skip
    # Numba takes a moment to import; who only asks for a model's description need not wait.
    with needs_extra("numba"):
        from inferd.engine.worker.cpu_program import Limits
        from inferd.engine.worker.cpu_runner import CpuRunner

    limits = Limits(
        tokens=max(config.max_num_batched_tokens, config.max_num_seqs),
        sequences=config.max_num_seqs, model_len=choice.max_model_len,
        num_blocks=choice.num_blocks, threads=choice.threads, kv=FORMS[choice.kv],
    )  # fmt: skip
    cache = cache_folder() if config.packed_cache and choice.weights != "float32" else None
    return CpuRunner(spec, sources, checkpoint, FORMS[choice.weights], limits, cache, progress)


def _device(config: EngineConfig) -> str:
    """Where the model runs; torch, which takes a moment to import, is asked only where there is a
    driver."""
    if config.device != "auto":
        return config.device
    if not Path("/proc/driver/nvidia").exists() or find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _cuda_runner(
    checkpoint: Checkpoint, spec: DecoderSpec, sources: tuple[WeightSource, ...],
    config: EngineConfig, checkpoint_dtype: str, progress: Progress | None,
) -> tuple[ModelRunner, Choice]:  # fmt: skip
    if find_spec("torch") is None:
        raise ConfigError(
            "cuda needs torch: pip install 'inferd[cuda]', or set device: cpu", field="device"
        )
    import torch

    from inferd.engine.worker.decode_graphs import GraphLimits
    from inferd.engine.worker.torch_runner import TorchRunner
    from inferd.engine.worker.torch_weights import load_weights, weight_bytes

    free, _ = torch.cuda.mem_get_info()
    first = choose(config, spec, checkpoint_dtype, free, 1, CUDA_BLOCK_SIZE, "cuda")
    free -= weight_bytes(spec, first.weights)
    choice = choose(config, spec, checkpoint_dtype, free, 1, CUDA_BLOCK_SIZE, "cuda")
    weights = load_weights(
        spec, sources, checkpoint, dtype=choice.weights, device="cuda", progress=progress
    )
    runner = TorchRunner(
        spec, weights, num_blocks=choice.num_blocks, block_size=CUDA_BLOCK_SIZE,
        kv_dtype=choice.kv, graphs=GraphLimits(config.max_num_seqs, choice.max_model_len),
    )  # fmt: skip
    return runner, choice


def cache_folder() -> Path:
    """Where packed weights are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "inferd" / "packed"
