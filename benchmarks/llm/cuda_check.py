"""Checks and measures inferd's CUDA path: `python -m benchmarks.llm.cuda_check`.

Needs torch, triton, numpy, msgspec and inferd. Every part runs on its own: one that fails prints
its traceback and the next begins. The last line is everything as JSON.
"""

# mypy: allow-untyped-calls

import argparse
import functools
import itertools
import json
import platform
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.llm.cuda_model import (
    BLOCK_SIZE,
    Sequences,
    folder_model,
    forced,
    generate,
    prompts,
    random_model,
)
from inferd.engine.models.spec import Attention, DecoderSpec, Mlp, Norm
from inferd.engine.worker.attention import ReferenceAttention, best_attention
from inferd.engine.worker.decode_graphs import GraphLimits
from inferd.engine.worker.step_inputs import Staging
from inferd.engine.worker.torch_layers import TorchPieces, best_pieces
from inferd.engine.worker.torch_runner import TorchRunner
from inferd.engine.worker.torch_weights import TorchWeights, blocks_that_fit

DEVICE = "cuda"
CONTEXT = 512
"""Tokens that a sequence has when the measurement of its decoding begins."""
STEPS = 40
RESULTS: dict[str, Any] = {}

Model = tuple[DecoderSpec, TorchWeights]


def main() -> None:
    """Run all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--model", type=Path, help="a model's folder, in place of a random one")
    parser.add_argument("--small", action="store_true", help="measure the small model")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    for name in options.parts or PARTS:
        print(f"\n== {name}", flush=True)
        start_s = time.perf_counter()
        try:
            PARTS[name](options)
        except Exception as error:
            traceback.print_exc()
            RESULTS.setdefault("failed", {})[name] = repr(error)
        print(f"-- {name}: {time.perf_counter() - start_s:.1f} s", flush=True)
        torch.cuda.empty_cache()
    text = json.dumps(RESULTS)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def say(name: str, **values: Any) -> None:
    """Print a line of a table and keep it."""
    RESULTS.setdefault(name, []).append(values)
    shown = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
    print(f"{name:<12}", "  ".join(shown), flush=True)


def machine(_: argparse.Namespace) -> None:
    """What this runs on."""
    import triton  # type: ignore[import-untyped]

    told = torch.cuda.get_device_properties(0)
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    say("machine", gpu=told.name, gib=told.total_memory / 2**30, sms=told.multi_processor_count,
        python=platform.python_version(), **versions)  # fmt: skip


# -- attention ---------------------------------------------------------------------------------


def _case(
    attention: Attention, counts: list[int], lengths: list[int], dtype: torch.dtype
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Metadata, queries and a filled cache of sequences whose last `counts` tokens are asked."""
    sequences = Sequences(len(counts), max(lengths))
    sequences.lengths = [length - count for length, count in zip(lengths, counts, strict=True)]
    batch = sequences.batch([[0] * count for count in counts])
    noise = torch.Generator(DEVICE).manual_seed(5)
    heads, groups, dim = attention.num_heads, attention.num_kv_heads, attention.head_dim
    shape = (2, sequences.num_blocks, BLOCK_SIZE, groups, dim)
    cache = torch.randn(shape, generator=noise, device=DEVICE).to(dtype)
    queries = torch.randn((sum(counts), heads, dim), generator=noise, device=DEVICE).to(dtype)
    return Staging(torch.device(DEVICE)).inputs(batch).meta, queries, cache


def attention_matrix(_: argparse.Namespace) -> None:
    """The compiled kernels beside the reference, on the GPU."""
    mixtures = {
        "decode": ([1] * 5, [2, 40, 177, 1500, 700]),
        "long": ([1], [3000]),
        "mixed": ([300, 7, 1, 1, 160], [700, 8, 333, 2, 1700]),
    }
    cases = [
        *itertools.product([torch.bfloat16], [64, 128], [0, 100], [0.0, 30.0], [(32, 8)]),
        *itertools.product([torch.bfloat16], [80, 96, 256], [0], [0.0], [(8, 8), (14, 2)]),
        *itertools.product([torch.bfloat16], [256], [100], [50.0], [(8, 4)]),
        *itertools.product([torch.float16], [64, 128], [0], [0.0], [(71, 1)]),
        *itertools.product([torch.float32], [64, 128, 256], [100], [0.0], [(8, 4)]),
    ]
    for dtype, dim, window, cap, (heads, groups) in cases:
        told = Attention(heads, groups, dim, dim**-0.5, None, window=window, softcap=cap)
        for name, (counts, lengths) in mixtures.items():
            values = {"dtype": str(dtype)[6:], "dim": dim, "heads": f"{heads}/{groups}",
                      "window": window, "cap": cap, "mix": name}  # fmt: skip
            try:
                say("attention", **values, error=_error(told, counts, lengths, dtype))
            except Exception as error:
                traceback.print_exc()
                say("attention", **values, failed=repr(error)[:300])
    done = RESULTS["attention"]
    for name in ("float32", "float16", "bfloat16"):
        errors = [row["error"] for row in done if row["dtype"] == name and "error" in row]
        say("worst", dtype=name, cases=len(errors), error=max(errors, default=float("nan")))


def _error(told: Attention, counts: list[int], lengths: list[int], dtype: torch.dtype) -> float:
    """Largest difference, writing included; 9 where a cache differs."""
    meta, queries, cache = _case(told, counts, lengths, dtype)
    keys, values = torch.randn((2, len(queries), *cache.shape[3:]), device=DEVICE).to(dtype)
    fast, slow = best_attention(torch.device(DEVICE)), ReferenceAttention()
    other = cache.clone()
    fast.write(cache, keys, values, meta)
    slow.write(other, keys, values, meta)
    if not torch.equal(cache, other):
        return 9.0
    found = fast.attend(queries, cache, told, meta).float()
    return float((found - slow.attend(queries, other, told, meta).float()).abs().max())


def layers(_: argparse.Namespace) -> None:
    """The other kernels beside torch's functions."""
    fast, slow = best_pieces(torch.device(DEVICE)), TorchPieces()
    for dtype, size in itertools.product([torch.float32, torch.bfloat16], [128, 2048, 5120]):
        x = torch.randn((33, 2 * size), device=DEVICE).to(dtype)
        weights = {"n": torch.randn(2 * size, device=DEVICE).to(dtype)}
        heads = x.view(33, -1, 64)[:, 1:]
        turn = torch.rand((33, 1, 24), device=DEVICE), torch.rand((33, 1, 24), device=DEVICE)
        pairs = {
            "norm": lambda p, x=x, w=weights: p.normed(x, w, "n", Norm("rms", 1e-5, 1.0)),
            "silu": lambda p, x=x, n=size: p.gated(x, Mlp(n, "silu")),
            "gelu_tanh": lambda p, x=x, n=size: p.gated(x, Mlp(n, "gelu_tanh")),
            "gelu": lambda p, x=x, n=size: p.gated(x, Mlp(n, "gelu")),
            "rotary": lambda p, h=heads, t=turn: p.rotated(h, t),
        }
        for name, call in pairs.items():
            error = float((call(fast).float() - call(slow).float()).abs().max())
            say("layers", kernel=name, dtype=str(dtype)[6:], size=size, error=error)


def attention_speed(_: argparse.Namespace) -> None:
    """Bytes of the cache read in a second by decoding, operations in a second by prompts."""
    fast = best_attention(torch.device(DEVICE))
    for dim, (count, length) in itertools.product(
        [64, 128], [(1, 1024), (1, 8192), (8, 4096), (32, 4096), (128, 2048)]
    ):
        told = Attention(32, 8, dim, dim**-0.5, None)
        meta, queries, cache = _case(told, [1] * count, [length] * count, torch.bfloat16)
        took_s = _device_s(functools.partial(fast.attend, queries, cache, told, meta))
        read = 2 * 2 * count * length * 8 * dim
        say("decode-attn", dim=dim, rows=count, length=length, us=took_s * 1e6,
            tb_s=read / took_s / 1e12)  # fmt: skip
    for dim, length in itertools.product([64, 128], [1024, 4096, 16384]):
        told = Attention(32, 8, dim, dim**-0.5, None)
        meta, queries, cache = _case(told, [length], [length], torch.bfloat16)
        took_s = _device_s(functools.partial(fast.attend, queries, cache, told, meta))
        work = 2 * length * length * 32 * dim
        say("prompt-attn", dim=dim, length=length, us=took_s * 1e6, tflop_s=work / took_s / 1e12)


def _device_s(call: Callable[[], object], repeats: int = 20) -> float:
    """Seconds of one call on the device, launches left out by a graph."""
    for _ in range(3):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    graph.replay()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / repeats


# -- the runner --------------------------------------------------------------------------------


def _runner(model: Model, num_blocks: int, rows: int = 0, reference: bool = False) -> TorchRunner:
    """With graphs of at most `rows` rows, if any; the reference is plain torch."""
    spec, weights = model
    return TorchRunner(
        spec, weights, num_blocks=num_blocks, block_size=BLOCK_SIZE,
        attention=ReferenceAttention() if reference else None,
        pieces=TorchPieces() if reference else None,
        graphs=GraphLimits(rows, 8192) if rows else None,
    )  # fmt: skip


def same_tokens(_: argparse.Namespace) -> None:
    """Graphs, chunks and the reference give the same tokens and nearly the same logits."""
    for dtype in ("float32", "bfloat16"):
        model = random_model(True, dtype, DEVICE)
        vocab = model[0].vocab_size
        blocks = 5 * -(-400 // BLOCK_SIZE)
        given = prompts(5, 300, vocab)
        runners = {
            "reference": _runner(model, blocks, reference=True),
            "kernels": _runner(model, blocks),
            "graphs": _runner(model, blocks, rows=8),
        }
        found = {name: generate(made, given, 32, 300) for name, made in runners.items()}
        for name in ("kernels", "graphs"):
            same = float(np.mean(np.array(found[name][0]) == np.array(found["reference"][0])))
            say("tokens", dtype=dtype, runner=name, same_as_reference=same)
        same = float(np.mean(np.array(found["graphs"][0]) == np.array(found["kernels"][0])))
        say("tokens", dtype=dtype, runner="graphs", same_as_kernels=same)
        whole = forced(runners["reference"], given, 300, 300)
        for name, made in runners.items():
            for chunk in (300, 64, 7):
                out = forced(made, given, 280, chunk)
                say("logits", dtype=dtype, runner=name, chunk=chunk,
                    error=float(np.linalg.norm(out - whole) / np.linalg.norm(whole)),
                    most=float(np.abs(out - whole).max()),
                    top_same=float(np.mean(out.argmax(-1) == whole.argmax(-1))))  # fmt: skip


def _measured(options: argparse.Namespace) -> Model:
    if options.model is not None:
        return folder_model(options.model, "bfloat16", DEVICE)
    return random_model(options.small, "bfloat16", DEVICE)


def memory(options: argparse.Namespace) -> None:
    """How many blocks would fit."""
    spec, _weights = _measured(options)
    blocks = blocks_that_fit(spec, block_size=BLOCK_SIZE, kv_dtype="bfloat16", device=DEVICE)
    say("memory", blocks=blocks, tokens=blocks * BLOCK_SIZE)


def decode_speed(options: argparse.Namespace) -> None:
    """Tokens in a second, logits copied to the host and not sampled from."""
    model = _measured(options)
    for count in (1, 8, 32, 128):
        for rows in (0, count):
            try:
                _decode(model, count, rows)
            except Exception as error:
                traceback.print_exc()
                say("decode", rows=count, graphs=bool(rows), failed=repr(error)[:300])


def _decode(model: Model, count: int, rows: int) -> None:
    sequences = Sequences(count, CONTEXT + 4 * STEPS)
    runner = _runner(model, sequences.num_blocks, rows)
    for row in range(count):
        runner.run(sequences.batch([[1] * CONTEXT if n == row else [] for n in range(count)]))
    for _ in range(5):
        runner.run(sequences.batch([[1]] * count))
    taken = {}
    for logits in ("all", "one"):
        start_s = time.perf_counter()
        for _ in range(STEPS):
            batch = sequences.batch([[1]] * count)
            if logits == "one":
                batch.logit_rows = batch.logit_rows[:1]
            runner.run(batch)
        taken[logits] = (time.perf_counter() - start_s) / STEPS
    say("decode", rows=count, graphs=bool(rows), ms=taken["all"] * 1e3,
        tokens_s=count / taken["all"], ms_one_row_of_logits=taken["one"] * 1e3)  # fmt: skip
    runner.close()


def prefill_speed(options: argparse.Namespace) -> None:
    """Tokens of a prompt in a second, in one step."""
    model = _measured(options)
    for count, length in ((1, 128), (1, 1024), (1, 4096), (8, 1024)):
        sequences = Sequences(count, length)
        runner = _runner(model, sequences.num_blocks)
        batch = sequences.batch([[1] * length] * count)
        took = []
        for _ in range(8):
            start_s = time.perf_counter()
            runner.run(batch)
            took.append(time.perf_counter() - start_s)
        best_s = float(np.median(took[3:]))
        say("prefill", prompts=count, length=length, ms=best_s * 1e3,
            tokens_s=count * length / best_s)  # fmt: skip
        runner.close()


def profile(options: argparse.Namespace) -> None:
    """Where the device's time goes: the kernels of a decode step, and of a prompt."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    model = _measured(options)
    for name, count, new in (("decode", 8, 1), ("prompt", 1, 2048)):
        sequences = Sequences(count, CONTEXT + 4 * new + 2048)
        runner = _runner(model, sequences.num_blocks)
        runner.run(sequences.batch([[1] * CONTEXT] * count))
        runner.run(sequences.batch([[1] * new] * count))
        batch = sequences.batch([[1] * new] * count)
        runner.run(batch)
        with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as held:
            runner.run(batch)
        print(name)
        table = held.key_averages().table(
            sort_by="self_cuda_time_total", row_limit=16, max_name_column_width=60
        )
        print(table)
        runner.close()


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "machine": machine,
    "attention": attention_matrix,
    "layers": layers,
    "tokens": same_tokens,
    "memory": memory,
    "decode": decode_speed,
    "prefill": prefill_speed,
    "attention-speed": attention_speed,
    "profile": profile,
}

if __name__ == "__main__":
    main()
