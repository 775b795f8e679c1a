"""Writes LLVM instructions: what vectors and tiles are made of, and what the target has.

Functions take llvmlite's builder and values and give values; addresses are 64-bit integers. Where
the target has no VNNI or BF16 instructions the same operations are written out, so that every
kernel runs everywhere. What it has is asked of Numba, so that `NUMBA_CPU_NAME` and
`NUMBA_CPU_FEATURES` decide here as they do in code generation.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.typing.templates import signature
from numba.extending import intrinsic

LANES = 16
binding.initialize_native_asmparser()  # for the few instructions that LLVM is given as text
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
VI, VF = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)
ADDR = types.int64


def target_features() -> frozenset[str]:
    """Features of the processor that Numba generates code for, in LLVM's names."""
    if config.CPU_FEATURES is not None:
        text = config.CPU_FEATURES
    elif config.CPU_NAME not in (None, "host"):
        text = ""
    else:
        text = binding.get_host_cpu_features().flatten()
    return frozenset(part[1:] for part in text.split(",") if part.startswith("+"))


FEATURES = target_features()
HAS_AVX512 = "avx512f" in FEATURES
HAS_VNNI = HAS_AVX512 and "avx512vnni" in FEATURES
HAS_BF16 = HAS_AVX512 and "avx512bf16" in FEATURES


def lane_type(lane: str) -> ir.Type:
    return VF if lane == "f32" else VI


def emit_load(builder: Any, addr: Any, kind: ir.Type) -> Any:
    loaded = builder.load(builder.inttoptr(addr, kind.as_pointer()))
    loaded.align = 1
    return loaded


def emit_store(builder: Any, addr: Any, value: Any) -> None:
    builder.store(value, builder.inttoptr(addr, value.type.as_pointer())).align = 1


def at(builder: Any, addr: Any, offset: int) -> Any:
    return builder.add(addr, ir.Constant(I64, offset)) if offset else addr


def splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, LANES), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def constant(value: float, kind: ir.Type) -> Any:
    return ir.Constant(kind, [value] * LANES)


def call(builder: Any, name: str, result: ir.Type, args: list[Any], **options: Any) -> Any:
    declared = builder.module.globals.get(name)
    if declared is None:
        kind = ir.FunctionType(result, [argument.type for argument in args])
        declared = ir.Function(builder.module, kind, name)
    return builder.call(declared, args, **options)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fma.v16f32", VF, [a, b, c])


def widen_bf16(builder: Any, bits: Any) -> Any:
    """bfloat16 as the upper half of a float: <16 x i16> to <16 x float>."""
    wide = builder.shl(builder.zext(bits, VI), constant(16, VI))
    return builder.bitcast(wide, VF)


def load_as_f32(builder: Any, addr: Any, kind: str) -> Any:
    if kind == "f32":
        return emit_load(builder, addr, VF)
    if kind == "bf16":
        return widen_bf16(builder, emit_load(builder, addr, ir.VectorType(I16, LANES)))
    if kind == "f16":
        return builder.fpext(emit_load(builder, addr, ir.VectorType(F16, LANES)), VF)
    if kind == "i8":
        narrow = emit_load(builder, addr, ir.VectorType(I8, LANES))
        return builder.sitofp(builder.sext(narrow, VI), VF)
    raise ValueError(kind)


BYTES = {"f32": 4, "bf16": 2, "f16": 2, "i8": 1}


def dot_of_bytes(builder: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """acc[lane] += sum over the lane's 4 bytes of unsigned * signed."""
    if HAS_VNNI:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", VI, [acc, unsigned, signed])
    for byte in range(4):
        left = constant(24 - 8 * byte, VI)
        u = builder.lshr(builder.shl(unsigned, left), constant(24, VI))
        s = builder.ashr(builder.shl(signed, left), constant(24, VI))
        acc = builder.add(acc, builder.mul(u, s))
    return acc


def bf16_halves(builder: Any, pairs: Any) -> tuple[Any, Any]:
    even = builder.bitcast(builder.shl(pairs, constant(16, VI)), VF)
    odd = builder.bitcast(builder.and_(pairs, constant(-65536, VI)), VF)
    return even, odd


def dot_of_bf16(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """acc[lane] += the products of the lane's two bfloat16 of a and b."""
    if HAS_BF16:
        kind = ir.FunctionType(VF, [VF, VI, VI])
        return builder.asm(kind, "vdpbf16ps $3, $2, $0", "=v,0,v,v", [acc, a, b], False)
    (a0, a1), (b0, b1) = bf16_halves(builder, a), bf16_halves(builder, b)
    return multiply_add(builder, a1, b1, multiply_add(builder, a0, b0, acc))


Emit = Callable[..., Any]


def define(result: Any, arguments: tuple[Any, ...], emit: Emit) -> Any:
    """A function for kernels; `emit(builder, *values)` writes its instructions."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = emit(builder, *args)
        return context.get_dummy_value() if value is None else value

    typed = signature(result, *arguments)
    if len(arguments) == 1:

        @intrinsic
        def one(typing: Any, a: Any) -> Any:
            return typed, generate

        return one
    if len(arguments) == 2:

        @intrinsic
        def two(typing: Any, a: Any, b: Any) -> Any:
            return typed, generate

        return two

    @intrinsic
    def three(typing: Any, a: Any, b: Any, c: Any) -> Any:
        return typed, generate

    return three
