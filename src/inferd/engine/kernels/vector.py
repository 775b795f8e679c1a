"""Vector types for Numba: values of 16 lanes that live in one 512-bit register.

A kernel written with these reads like the mathematics and compiles to what a C programmer would
write with intrinsics, without a compiler on the user's machine. Memory is addressed by integers;
the caller vouches for them.

    f32x16, i32x16    16 floats, 16 integers, with + - * /

Signatures are in the comments: addr is an int64 address, i32 and f32 are scalars.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from inferd.engine.kernels.emit import (
    ADDR,
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    VF,
    VI,
    call,
    constant,
    define,
    emit_load,
    emit_store,
    lane_type,
    load_as_f32,
    multiply_add,
    splat,
)


class Vector(types.Type):
    """16 lanes of one kind, "f32" or "i32"."""

    def __init__(self, lane: str) -> None:
        self.lane = lane
        super().__init__(name=f"{lane}x16")


f32x16, i32x16 = Vector("f32"), Vector("i32")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, lane_type(fe_type.lane))


def _loader(kind: str) -> Any:
    return define(f32x16, (ADDR,), lambda b, addr: load_as_f32(b, addr, kind))


load_f32 = _loader("f32")  # addr -> f32x16
load_bf16 = _loader("bf16")  # 16 bfloat16 -> f32x16
load_f16 = _loader("f16")
load_i32 = define(i32x16, (ADDR,), lambda b, addr: emit_load(b, addr, VI))
store_f32 = define(types.void, (ADDR, f32x16), emit_store)
store_i8 = define(  # the low byte of each lane, 16 bytes
    types.void, (ADDR, i32x16),
    lambda b, addr, v: emit_store(b, addr, b.trunc(v, ir.VectorType(I8, LANES))),
)  # fmt: skip
splat_f32 = define(f32x16, (types.float32,), splat)
splat_i32 = define(i32x16, (types.int32,), splat)
fma = define(f32x16, (f32x16, f32x16, f32x16), multiply_add)  # a * b + c
to_f32 = define(f32x16, (i32x16,), lambda b, v: b.sitofp(v, VF))


def _emit_store_bf16(builder: Any, addr: Any, value: Any) -> None:
    """Rounds to the nearest, ties to even; NaN stays NaN as its upper half is not all zero."""
    bits = builder.bitcast(value, VI)
    upper = builder.lshr(bits, constant(16, VI))
    odd = builder.and_(upper, constant(1, VI))
    rounded = builder.add(builder.add(bits, constant(0x7FFF, VI)), odd)
    narrow = builder.trunc(builder.lshr(rounded, constant(16, VI)), ir.VectorType(I16, LANES))
    emit_store(builder, addr, narrow)


store_bf16 = define(types.void, (ADDR, f32x16), _emit_store_bf16)


def _emit_round(builder: Any, value: Any) -> Any:
    return builder.fptosi(call(builder, "llvm.rint.v16f32", VF, [value]), VI)


round_i32 = define(i32x16, (f32x16,), _emit_round)  # to the nearest, ties to even


def _emit_abs(builder: Any, value: Any) -> Any:
    return call(builder, "llvm.fabs.v16f32", VF, [value])


def _emit_max(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _emit_min(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


abs_f32 = define(f32x16, (f32x16,), _emit_abs)
max_f32 = define(f32x16, (f32x16, f32x16), _emit_max)
min_f32 = define(f32x16, (f32x16, f32x16), _emit_min)


def _emit_sum(builder: Any, value: Any) -> Any:
    zero = ir.Constant(F32, 0.0)
    name = "llvm.vector.reduce.fadd.v16f32"
    return call(builder, name, F32, [zero, value], fastmath=("reassoc",))


def _emit_largest(builder: Any, value: Any) -> Any:
    return call(builder, "llvm.vector.reduce.fmax.v16f32", F32, [value], fastmath=("nnan",))


sum_f32 = define(types.float32, (f32x16,), _emit_sum)  # of the lanes
largest_f32 = define(types.float32, (f32x16,), _emit_largest)  # of the lanes; no NaN
sum_i32 = define(
    types.int32, (i32x16,),
    lambda b, v: call(b, "llvm.vector.reduce.add.v16i32", I32, [v]),
)  # fmt: skip


def _emit_exp(builder: Any, x: Any) -> Any:
    """e**x with a relative error under 2e-7: 2**n * p(r), n the nearest integer to x log2 e and
    p the Taylor polynomial of degree 6 on |r| <= 0.35. Below -87 the result is 0."""
    low = constant(-87.0, VF)
    y = _emit_min(builder, _emit_max(builder, x, low), constant(88.0, VF))
    n = call(builder, "llvm.rint.v16f32", VF, [builder.fmul(y, constant(1.4426950408889634, VF))])
    r = multiply_add(builder, n, constant(-0.693145751953125, VF), y)
    r = multiply_add(builder, n, constant(-1.428606765330187e-06, VF), r)
    p = constant(1 / 720, VF)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        p = multiply_add(builder, p, r, constant(coefficient, VF))
    shifted = builder.shl(builder.fptosi(n, VI), constant(23, VI))
    result = builder.bitcast(builder.add(builder.bitcast(p, VI), shifted), VF)
    return builder.select(builder.fcmp_ordered("<", x, low), constant(0.0, VF), result)


exp_f32 = define(f32x16, (f32x16,), _emit_exp)


def _emit_keep_first(builder: Any, value: Any, count: Any, other: Any) -> Any:
    lanes = ir.Constant(VI, list(range(LANES)))
    return builder.select(builder.icmp_signed("<", lanes, splat(builder, count)), value, other)


keep_first = define(  # lanes below count (i32) of the first, the rest of the second
    f32x16, (f32x16, types.int32, f32x16), _emit_keep_first
)

_OPERATORS = {
    operator.add: ("fadd", "add"),
    operator.sub: ("fsub", "sub"),
    operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", None),
}

for _function, (_of_floats, _of_integers) in _OPERATORS.items():
    for _kind, _instruction in ((f32x16, _of_floats), (i32x16, _of_integers)):
        if _instruction is None:
            continue

        @infer_global(_function)
        class _Typing(ConcreteTemplate):
            cases = (signature(_kind, _kind, _kind),)

        def _lower(
            context: Any, builder: Any, sig: Any, args: Any, instruction: str = _instruction
        ) -> Any:
            return getattr(builder, instruction)(*args)

        lower_builtin(_function, _kind, _kind)(_lower)


def _prefetcher(lines: int) -> Any:
    def emit(builder: Any, addr: Any) -> None:
        pointer = builder.inttoptr(addr, I8.as_pointer())
        name = "llvm.prefetch.p0"
        declared = builder.module.globals.get(name)
        if declared is None:
            kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
            declared = ir.Function(builder.module, kind, name)
        read, near, data = (ir.Constant(I32, value) for value in (0, 2, 1))
        for line in range(lines):
            moved = builder.gep(pointer, [ir.Constant(I64, 64 * line)])
            builder.call(declared, [moved, read, near, data])

    return define(types.void, (ADDR,), emit)


prefetch_64, prefetch_128, prefetch_256 = (_prefetcher(lines) for lines in (1, 2, 4))
"""Ask for memory that will be read soon; any address will do. It comes as far as the second cache:
what is asked into the first has fewer places to wait in than full bandwidth needs."""


# -- scalars in memory ----------------------------------------------------------------------------


def _scalar(result: Any, kind: ir.Type) -> tuple[Any, Any]:
    load = define(result, (ADDR,), lambda b, addr: emit_load(b, addr, kind))
    store = define(types.void, (ADDR, result), emit_store)
    return load, store


get_i32, put_i32 = _scalar(types.int32, I32)
get_i64, put_i64 = _scalar(types.int64, I64)
get_f32, put_f32 = _scalar(types.float32, F32)


def _emit_get_f16(builder: Any, addr: Any) -> Any:
    return builder.fpext(emit_load(builder, addr, F16), F32)


def _emit_put_f16(builder: Any, addr: Any, value: Any) -> None:
    emit_store(builder, addr, builder.fptrunc(value, F16))


get_f16 = define(types.float32, (ADDR,), _emit_get_f16)
put_f16 = define(types.void, (ADDR, types.float32), _emit_put_f16)
put_i16 = define(  # the low half
    types.void, (ADDR, types.int32), lambda b, addr, v: emit_store(b, addr, b.trunc(v, I16))
)
put_i8 = define(
    types.void, (ADDR, types.int32), lambda b, addr, v: emit_store(b, addr, b.trunc(v, I8))
)
