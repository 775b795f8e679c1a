"""Vector types for Numba: values of 16 lanes that live in one 512-bit register, and tiles of them.

A kernel written with these reads like the mathematics and compiles to what a C programmer would
write with intrinsics, without a compiler on the user's machine. Memory is addressed by integers;
the caller vouches for them. Where the target has no VNNI or BF16 instructions the same operations
are written out in plain LLVM, so every kernel runs everywhere. What the target has is asked of
Numba, so that `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` decide here as they do in code generation.

    f32x16, i32x16    16 floats, 16 integers
    a Tile            rows x cols vectors: with 24 accumulators and the operands beside them nearly
                      all 32 registers are in use

Signatures are in the comments: addr is an int64 address, i32 and f32 are scalars.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16
binding.initialize_native_asmparser()  # for the few instructions that LLVM is given as text
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F16, _F32 = ir.HalfType(), ir.FloatType()
_VI, _VF = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)


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


# -- types ----------------------------------------------------------------------------------------


class Vector(types.Type):
    """16 lanes of one kind, "f32" or "i32"."""

    def __init__(self, lane: str) -> None:
        self.lane = lane
        super().__init__(name=f"{lane}x16")


class Tile(types.Type):
    """rows x cols vectors."""

    def __init__(self, lane: str, rows: int, cols: int) -> None:
        self.lane, self.rows, self.cols = lane, rows, cols
        super().__init__(name=f"Tile({lane}, {rows}, {cols})")


f32x16, i32x16 = Vector("f32"), Vector("i32")


def _lane_type(lane: str) -> ir.Type:
    return _VF if lane == "f32" else _VI


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, _lane_type(fe_type.lane))


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Tile) -> None:
        array = ir.ArrayType(_lane_type(fe_type.lane), fe_type.rows * fe_type.cols)
        super().__init__(manager, fe_type, array)


# -- emitting -------------------------------------------------------------------------------------


def _load(builder: Any, addr: Any, kind: ir.Type) -> Any:
    loaded = builder.load(builder.inttoptr(addr, kind.as_pointer()))
    loaded.align = 1
    return loaded


def _store(builder: Any, addr: Any, value: Any) -> None:
    builder.store(value, builder.inttoptr(addr, value.type.as_pointer())).align = 1


def _at(builder: Any, addr: Any, offset: int) -> Any:
    return builder.add(addr, ir.Constant(_I64, offset)) if offset else addr


def _splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _constant(value: float, kind: ir.Type) -> Any:
    return ir.Constant(kind, [value] * LANES)


def _call(builder: Any, name: str, result: ir.Type, args: list[Any], **options: Any) -> Any:
    declared = builder.module.globals.get(name)
    if declared is None:
        kind = ir.FunctionType(result, [argument.type for argument in args])
        declared = ir.Function(builder.module, kind, name)
    return builder.call(declared, args, **options)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fma.v16f32", _VF, [a, b, c])


def _widen_bf16(builder: Any, bits: Any) -> Any:
    """bfloat16 as the upper half of a float: <16 x i16> to <16 x float>."""
    wide = builder.shl(builder.zext(bits, _VI), _constant(16, _VI))
    return builder.bitcast(wide, _VF)


def _load_as_f32(builder: Any, addr: Any, kind: str) -> Any:
    if kind == "f32":
        return _load(builder, addr, _VF)
    if kind == "bf16":
        return _widen_bf16(builder, _load(builder, addr, ir.VectorType(_I16, LANES)))
    if kind == "f16":
        return builder.fpext(_load(builder, addr, ir.VectorType(_F16, LANES)), _VF)
    if kind == "i8":
        narrow = _load(builder, addr, ir.VectorType(_I8, LANES))
        return builder.sitofp(builder.sext(narrow, _VI), _VF)
    raise ValueError(kind)


BYTES = {"f32": 4, "bf16": 2, "f16": 2, "i8": 1}


def _dot_bytes(builder: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """acc[lane] += sum over the lane's 4 bytes of unsigned * signed."""
    if HAS_VNNI:
        return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _VI, [acc, unsigned, signed])
    for byte in range(4):
        left = _constant(24 - 8 * byte, _VI)
        u = builder.lshr(builder.shl(unsigned, left), _constant(24, _VI))
        s = builder.ashr(builder.shl(signed, left), _constant(24, _VI))
        acc = builder.add(acc, builder.mul(u, s))
    return acc


def _bf16_halves(builder: Any, pairs: Any) -> tuple[Any, Any]:
    even = builder.bitcast(builder.shl(pairs, _constant(16, _VI)), _VF)
    odd = builder.bitcast(builder.and_(pairs, _constant(-65536, _VI)), _VF)
    return even, odd


def _dot_bf16(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """acc[lane] += the products of the lane's two bfloat16 of a and b."""
    if HAS_BF16:
        kind = ir.FunctionType(_VF, [_VF, _VI, _VI])
        return builder.asm(kind, "vdpbf16ps $3, $2, $0", "=v,0,v,v", [acc, a, b], False)
    (a0, a1), (b0, b1) = _bf16_halves(builder, a), _bf16_halves(builder, b)
    return _fma(builder, a1, b1, _fma(builder, a0, b0, acc))


# -- vectors --------------------------------------------------------------------------------------

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


_ADDR = types.int64


def _loader(kind: str) -> Any:
    return define(f32x16, (_ADDR,), lambda b, addr: _load_as_f32(b, addr, kind))


load_f32 = _loader("f32")  # addr -> f32x16
load_bf16 = _loader("bf16")  # 16 bfloat16 -> f32x16
load_f16 = _loader("f16")
load_i8_as_f32 = _loader("i8")
load_i32 = define(i32x16, (_ADDR,), lambda b, addr: _load(b, addr, _VI))
store_f32 = define(types.void, (_ADDR, f32x16), _store)
store_i32 = define(types.void, (_ADDR, i32x16), _store)
store_i8 = define(  # the low byte of each lane, 16 bytes
    types.void, (_ADDR, i32x16),
    lambda b, addr, v: _store(b, addr, b.trunc(v, ir.VectorType(_I8, LANES))),
)  # fmt: skip
splat_f32 = define(f32x16, (types.float32,), _splat)
splat_i32 = define(i32x16, (types.int32,), _splat)
fma = define(f32x16, (f32x16, f32x16, f32x16), _fma)  # a * b + c
to_f32 = define(f32x16, (i32x16,), lambda b, v: b.sitofp(v, _VF))
dot_bytes = define(i32x16, (i32x16, i32x16, i32x16), _dot_bytes)


def _emit_store_bf16(builder: Any, addr: Any, value: Any) -> None:
    """Rounds to the nearest, ties to even; NaN stays NaN as its upper half is not all zero."""
    bits = builder.bitcast(value, _VI)
    upper = builder.lshr(bits, _constant(16, _VI))
    odd = builder.and_(upper, _constant(1, _VI))
    rounded = builder.add(builder.add(bits, _constant(0x7FFF, _VI)), odd)
    narrow = builder.trunc(builder.lshr(rounded, _constant(16, _VI)), ir.VectorType(_I16, LANES))
    _store(builder, addr, narrow)


store_bf16 = define(types.void, (_ADDR, f32x16), _emit_store_bf16)


def _emit_round(builder: Any, value: Any) -> Any:
    return builder.fptosi(_call(builder, "llvm.rint.v16f32", _VF, [value]), _VI)


round_i32 = define(i32x16, (f32x16,), _emit_round)  # to the nearest, ties to even


def _emit_abs(builder: Any, value: Any) -> Any:
    return _call(builder, "llvm.fabs.v16f32", _VF, [value])


def _emit_max(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _emit_min(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


abs_f32 = define(f32x16, (f32x16,), _emit_abs)
max_f32 = define(f32x16, (f32x16, f32x16), _emit_max)
min_f32 = define(f32x16, (f32x16, f32x16), _emit_min)


def _emit_sum(builder: Any, value: Any) -> Any:
    zero = ir.Constant(_F32, 0.0)
    name = "llvm.vector.reduce.fadd.v16f32"
    return _call(builder, name, _F32, [zero, value], fastmath=("reassoc",))


def _emit_largest(builder: Any, value: Any) -> Any:
    return _call(builder, "llvm.vector.reduce.fmax.v16f32", _F32, [value], fastmath=("nnan",))


sum_f32 = define(types.float32, (f32x16,), _emit_sum)  # of the lanes
largest_f32 = define(types.float32, (f32x16,), _emit_largest)  # of the lanes; no NaN
sum_i32 = define(
    types.int32, (i32x16,),
    lambda b, v: _call(b, "llvm.vector.reduce.add.v16i32", _I32, [v]),
)  # fmt: skip


def _emit_exp(builder: Any, x: Any) -> Any:
    """e**x with a relative error under 2e-7: 2**n * p(r), n the nearest integer to x log2 e and
    p the Taylor polynomial of degree 6 on |r| <= 0.35. Below -87 the result is 0."""
    low = _constant(-87.0, _VF)
    y = _emit_min(builder, _emit_max(builder, x, low), _constant(88.0, _VF))
    n = _call(
        builder, "llvm.rint.v16f32", _VF, [builder.fmul(y, _constant(1.4426950408889634, _VF))]
    )
    r = _fma(builder, n, _constant(-0.693145751953125, _VF), y)
    r = _fma(builder, n, _constant(-1.428606765330187e-06, _VF), r)
    p = _constant(1 / 720, _VF)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        p = _fma(builder, p, r, _constant(coefficient, _VF))
    shifted = builder.shl(builder.fptosi(n, _VI), _constant(23, _VI))
    result = builder.bitcast(builder.add(builder.bitcast(p, _VI), shifted), _VF)
    return builder.select(builder.fcmp_ordered("<", x, low), _constant(0.0, _VF), result)


exp_f32 = define(f32x16, (f32x16,), _emit_exp)


def _emit_keep_first(builder: Any, value: Any, count: Any, other: Any) -> Any:
    lanes = ir.Constant(_VI, list(range(LANES)))
    return builder.select(builder.icmp_signed("<", lanes, _splat(builder, count)), value, other)


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


# -- tiles ----------------------------------------------------------------------------------------


def _rows_and_cols(rows: Any, cols: Any) -> tuple[int, int]:
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(cols, types.IntegerLiteral):
        raise TypeError("rows and cols of a tile must be constants")
    return rows.literal_value, cols.literal_value


def _tile_maker(lane: str) -> Any:
    @intrinsic(prefer_literal=True)
    def make(typing: Any, rows: Any, cols: Any) -> Any:
        tile = Tile(lane, *_rows_and_cols(rows, cols))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return ir.Constant(context.get_value_type(tile), None)

        return signature(tile, rows, cols), generate

    return make


zero_tile_f32 = _tile_maker("f32")  # rows, cols (constants) -> Tile
zero_tile_i32 = _tile_maker("i32")


def _for_each(builder: Any, tile: Any, kind: Tile, step: Callable[[Any, int, int], Any]) -> Any:
    for row in range(kind.rows):
        for col in range(kind.cols):
            index = row * kind.cols + col
            tile = builder.insert_value(
                tile, step(builder.extract_value(tile, index), row, col), index
            )
    return tile


def _tile_operation(emit: Callable[..., Any]) -> Any:
    """tile, addr, addr, stride (bytes) -> tile."""

    @intrinsic
    def operation(typing: Any, tile: Any, w: Any, a: Any, stride: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(builder, tile, *args)

        return signature(tile, tile, _ADDR, _ADDR, _ADDR), generate

    return operation


def _row_addresses(builder: Any, kind: Tile, a: Any, stride: Any) -> list[Any]:
    return [
        builder.add(a, builder.mul(stride, ir.Constant(_I64, row))) if row else a
        for row in range(kind.rows)
    ]


def _emit_tile_dot(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    weights = [_load(builder, _at(builder, w, 64 * col), _VI) for col in range(kind.cols)]
    rows = [
        _splat(builder, _load(builder, addr, _I32))
        for addr in _row_addresses(builder, kind, a, stride)
    ]
    return _for_each(
        builder, tile, kind, lambda acc, r, c: _dot_bytes(builder, acc, weights[c], rows[r])
    )


tile_dot = _tile_operation(_emit_tile_dot)
"""tile[r, c] += w[c] . a[r]: 4 unsigned bytes a lane at w + 64 c, 4 signed ones at a + r stride."""


def _emit_tile_dot_nibbles(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    mask = _constant(0x0F0F0F0F, _VI)
    packed = [_load(builder, _at(builder, w, 64 * col), _VI) for col in range(kind.cols)]
    addresses = _row_addresses(builder, kind, a, stride)
    for half in range(2):
        weights = [
            builder.and_(builder.lshr(p, _constant(4, _VI)) if half else p, mask) for p in packed
        ]
        rows = [
            _splat(builder, _load(builder, _at(builder, addr, 4 * half), _I32))
            for addr in addresses
        ]

        def step(acc: Any, r: int, c: int, w: Any = weights, a: Any = rows) -> Any:
            return _dot_bytes(builder, acc, w[c], a[r])

        tile = _for_each(builder, tile, kind, step)
    return tile


tile_dot_nibbles = _tile_operation(_emit_tile_dot_nibbles)
"""The same with 8 nibbles a lane: the low ones are inputs 0 to 3, the high ones 4 to 7."""


def _emit_tile_dot_bf16(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    weights = [_load(builder, _at(builder, w, 64 * col), _VI) for col in range(kind.cols)]
    rows = [
        _splat(builder, _load(builder, addr, _I32))
        for addr in _row_addresses(builder, kind, a, stride)
    ]
    return _for_each(
        builder, tile, kind, lambda acc, r, c: _dot_bf16(builder, acc, weights[c], rows[r])
    )


tile_dot_bf16 = _tile_operation(_emit_tile_dot_bf16)
"""tile[r, c] += w[c] . a[r] with two bfloat16 a lane on both sides."""


def _emit_tile_fma_pairs(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    packed = [_load(builder, _at(builder, w, 64 * col), _VI) for col in range(kind.cols)]
    halves = [_bf16_halves(builder, p) for p in packed]
    addresses = _row_addresses(builder, kind, a, stride)
    for half in range(2):
        rows = [
            _splat(builder, _load(builder, _at(builder, addr, 4 * half), _F32))
            for addr in addresses
        ]

        def step(acc: Any, r: int, c: int, half: int = half, a: Any = rows) -> Any:
            return _fma(builder, a[r], halves[c][half], acc)

        tile = _for_each(builder, tile, kind, step)
    return tile


tile_fma_pairs = _tile_operation(_emit_tile_fma_pairs)
"""The same with floats at a: for processors that cannot multiply bfloat16."""


def _tile_fma(kind_of_w: str) -> Any:
    def emit(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
        width = LANES * BYTES[kind_of_w]
        weights = [
            _load_as_f32(builder, _at(builder, w, width * col), kind_of_w)
            for col in range(kind.cols)
        ]
        rows = [
            _splat(builder, _load(builder, addr, _F32))
            for addr in _row_addresses(builder, kind, a, stride)
        ]
        return _for_each(
            builder, tile, kind, lambda acc, r, c: _fma(builder, rows[r], weights[c], acc)
        )

    return _tile_operation(emit)


tile_fma_f32 = _tile_fma("f32")
"""tile[r, c] += a[r] * w[c]: a float at a + r stride, 16 numbers a column at w."""
tile_fma_bf16 = _tile_fma("bf16")
tile_fma_i8 = _tile_fma("i8")


@intrinsic
def tile_fold(typing: Any, tile: Any, products: Any, scales: Any) -> Any:
    """tile[r, c] += float(products[r, c]) * scales[c], with 16 float16 a column at scales."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source, addr = args
        factors = [
            _load_as_f32(builder, _at(builder, addr, 32 * col), "f16") for col in range(tile.cols)
        ]

        def step(acc: Any, r: int, c: int) -> Any:
            product = builder.extract_value(source, r * tile.cols + c)
            return _fma(builder, builder.sitofp(product, _VF), factors[c], acc)

        return _for_each(builder, target, tile, step)

    return signature(tile, tile, products, _ADDR), generate


@intrinsic(prefer_literal=True)
def start_tile(typing: Any, rows: Any, cols: Any, a: Any, stride: Any) -> Any:
    """A tile of integers whose row r is all the 32-bit integer at a + r stride."""
    tile = Tile("i32", *_rows_and_cols(rows, cols))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        addresses = _row_addresses(builder, tile, args[2], args[3])
        values = [_splat(builder, _load(builder, addr, _I32)) for addr in addresses]
        empty = ir.Constant(context.get_value_type(tile), ir.Undefined)
        return _for_each(builder, empty, tile, lambda acc, r, c: values[r])

    return signature(tile, rows, cols, _ADDR, _ADDR), generate


def _tile_loader(lane: str) -> Any:
    @intrinsic(prefer_literal=True)
    def load(typing: Any, rows: Any, cols: Any, addr: Any, stride: Any) -> Any:
        tile = Tile(lane, *_rows_and_cols(rows, cols))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            addresses = _row_addresses(builder, tile, args[2], args[3])
            empty = ir.Constant(context.get_value_type(tile), ir.Undefined)
            kind = _lane_type(lane)
            return _for_each(
                builder, empty, tile,
                lambda acc, r, c: _load(builder, _at(builder, addresses[r], 64 * c), kind),
            )  # fmt: skip

        return signature(tile, rows, cols, _ADDR, _ADDR), generate

    return load


load_tile_f32 = _tile_loader("f32")  # rows, cols, addr, stride in bytes


@intrinsic
def store_tile(typing: Any, tile: Any, addr: Any, stride: Any) -> Any:
    """Row r goes to addr + r stride, its columns side by side."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, base, step = args
        for row, address in enumerate(_row_addresses(builder, tile, base, step)):
            for col in range(tile.cols):
                vector = builder.extract_value(value, row * tile.cols + col)
                _store(builder, _at(builder, address, 64 * col), vector)
        return context.get_dummy_value()

    return signature(types.void, tile, _ADDR, _ADDR), generate


def _prefetcher(lines: int) -> Any:
    def emit(builder: Any, addr: Any) -> None:
        pointer = builder.inttoptr(addr, _I8.as_pointer())
        name = "llvm.prefetch.p0"
        declared = builder.module.globals.get(name)
        if declared is None:
            kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
            declared = ir.Function(builder.module, kind, name)
        read, near, data = (ir.Constant(_I32, value) for value in (0, 3, 1))
        for line in range(lines):
            moved = builder.gep(pointer, [ir.Constant(_I64, 64 * line)])
            builder.call(declared, [moved, read, near, data])

    return define(types.void, (_ADDR,), emit)


prefetch_64, prefetch_128, prefetch_256 = (_prefetcher(lines) for lines in (1, 2, 4))
"""Ask for memory that will be read soon; any address will do."""


# -- scalars in memory ----------------------------------------------------------------------------


def _scalar(result: Any, kind: ir.Type) -> tuple[Any, Any]:
    load = define(result, (_ADDR,), lambda b, addr: _load(b, addr, kind))
    store = define(types.void, (_ADDR, result), _store)
    return load, store


get_i32, put_i32 = _scalar(types.int32, _I32)
get_i64, put_i64 = _scalar(types.int64, _I64)
get_f32, put_f32 = _scalar(types.float32, _F32)


def _emit_get_f16(builder: Any, addr: Any) -> Any:
    return builder.fpext(_load(builder, addr, _F16), _F32)


def _emit_put_f16(builder: Any, addr: Any, value: Any) -> None:
    _store(builder, addr, builder.fptrunc(value, _F16))


get_f16 = define(types.float32, (_ADDR,), _emit_get_f16)
put_f16 = define(types.void, (_ADDR, types.float32), _emit_put_f16)
put_i16 = define(  # the low half
    types.void, (_ADDR, types.int32), lambda b, addr, v: _store(b, addr, b.trunc(v, _I16))
)
put_i8 = define(
    types.void, (_ADDR, types.int32), lambda b, addr, v: _store(b, addr, b.trunc(v, _I8))
)
