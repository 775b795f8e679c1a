"""Tiles for Numba: rows x cols vectors at once, the accumulators of a product.

With 24 accumulators and the operands beside them nearly all 32 registers are in use. Rows come
from an address and a stride in bytes, one number at a time for all lanes; columns from vectors that
lie side by side.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, models, register_model

from inferd.engine.kernels.emit import (
    ADDR,
    BYTES,
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    VF,
    VI,
    at,
    bf16_halves,
    constant,
    dot_of_bf16,
    dot_of_bytes,
    emit_load,
    emit_store,
    lane_type,
    load_as_f32,
    multiply_add,
    splat,
)


class Tile(types.Type):
    """rows x cols vectors."""

    def __init__(self, lane: str, rows: int, cols: int) -> None:
        self.lane, self.rows, self.cols = lane, rows, cols
        super().__init__(name=f"Tile({lane}, {rows}, {cols})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Tile) -> None:
        array = ir.ArrayType(lane_type(fe_type.lane), fe_type.rows * fe_type.cols)
        super().__init__(manager, fe_type, array)


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

        return signature(tile, tile, ADDR, ADDR, ADDR), generate

    return operation


def _row_addresses(builder: Any, kind: Tile, a: Any, stride: Any) -> list[Any]:
    return [
        builder.add(a, builder.mul(stride, ir.Constant(I64, row))) if row else a
        for row in range(kind.rows)
    ]


def _tile_dot(dot: Callable[..., Any]) -> Any:
    def emit(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
        weights = [emit_load(builder, at(builder, w, 64 * col), VI) for col in range(kind.cols)]
        rows = [
            splat(builder, emit_load(builder, addr, I32))
            for addr in _row_addresses(builder, kind, a, stride)
        ]
        return _for_each(
            builder, tile, kind, lambda acc, r, c: dot(builder, acc, weights[c], rows[r])
        )

    return _tile_operation(emit)


tile_dot = _tile_dot(dot_of_bytes)
"""tile[r, c] += w[c] . a[r]: 4 unsigned bytes a lane at w + 64 c, 4 signed ones at a + r stride."""

tile_dot_bf16 = _tile_dot(dot_of_bf16)
"""tile[r, c] += w[c] . a[r] with two bfloat16 a lane on both sides."""


def _emit_tile_dot_nibbles(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    mask = constant(0x0F0F0F0F, VI)
    packed = [emit_load(builder, at(builder, w, 64 * col), VI) for col in range(kind.cols)]
    addresses = _row_addresses(builder, kind, a, stride)
    for half in range(2):
        weights = [
            builder.and_(builder.lshr(p, constant(4, VI)) if half else p, mask) for p in packed
        ]
        rows = [
            splat(builder, emit_load(builder, at(builder, addr, 4 * half), I32))
            for addr in addresses
        ]

        def step(acc: Any, r: int, c: int, w: Any = weights, a: Any = rows) -> Any:
            return dot_of_bytes(builder, acc, w[c], a[r])

        tile = _for_each(builder, tile, kind, step)
    return tile


tile_dot_nibbles = _tile_operation(_emit_tile_dot_nibbles)
"""The same with 8 nibbles a lane: the low ones are inputs 0 to 3, the high ones 4 to 7."""


def _emit_tile_fma_pairs(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
    packed = [emit_load(builder, at(builder, w, 64 * col), VI) for col in range(kind.cols)]
    halves = [bf16_halves(builder, p) for p in packed]
    addresses = _row_addresses(builder, kind, a, stride)
    for half in range(2):
        rows = [
            splat(builder, emit_load(builder, at(builder, addr, 4 * half), F32))
            for addr in addresses
        ]

        def step(acc: Any, r: int, c: int, half: int = half, a: Any = rows) -> Any:
            return multiply_add(builder, a[r], halves[c][half], acc)

        tile = _for_each(builder, tile, kind, step)
    return tile


tile_fma_pairs = _tile_operation(_emit_tile_fma_pairs)
"""The same with floats at a: for processors that cannot multiply bfloat16."""


def _tile_fma(kind_of_w: str) -> Any:
    def emit(builder: Any, kind: Tile, tile: Any, w: Any, a: Any, stride: Any) -> Any:
        width = LANES * BYTES[kind_of_w]
        weights = [
            load_as_f32(builder, at(builder, w, width * col), kind_of_w) for col in range(kind.cols)
        ]
        rows = [
            splat(builder, emit_load(builder, addr, F32))
            for addr in _row_addresses(builder, kind, a, stride)
        ]
        return _for_each(
            builder, tile, kind, lambda acc, r, c: multiply_add(builder, rows[r], weights[c], acc)
        )

    return _tile_operation(emit)


tile_fma_f32 = _tile_fma("f32")
"""tile[r, c] += a[r] * w[c]: a float at a + r stride, 16 numbers a column at w."""
tile_fma_i8 = _tile_fma("i8")


@intrinsic
def tile_fold(typing: Any, tile: Any, products: Any, scales: Any) -> Any:
    """tile[r, c] += float(products[r, c]) * scales[c], with 16 float16 a column at scales."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source, addr = args
        factors = _factors(builder, addr, tile.cols)

        def step(acc: Any, r: int, c: int) -> Any:
            product = builder.extract_value(source, r * tile.cols + c)
            return multiply_add(builder, builder.sitofp(product, VF), factors[c], acc)

        return _for_each(builder, target, tile, step)

    return signature(tile, tile, products, ADDR), generate


def _factors(builder: Any, addr: Any, cols: int) -> list[Any]:
    return [load_as_f32(builder, at(builder, addr, 32 * col), "f16") for col in range(cols)]


@intrinsic
def tile_fold_into(typing: Any, products: Any, scales: Any, sums: Any, stride: Any) -> Any:
    """The same with a target in memory: row r of it is at sums + r stride."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile, addr, target, step = args
        factors = _factors(builder, addr, products.cols)
        for row, address in enumerate(_row_addresses(builder, products, target, step)):
            for col in range(products.cols):
                place = at(builder, address, 64 * col)
                product = builder.extract_value(tile, row * products.cols + col)
                number = builder.sitofp(product, VF)
                held = emit_load(builder, place, VF)
                emit_store(builder, place, multiply_add(builder, number, factors[col], held))
        return context.get_dummy_value()

    return signature(types.void, products, ADDR, ADDR, ADDR), generate


def _multipliers(builder: Any, addr: Any, cols: int) -> list[Any]:
    """16 bytes with a sign a column, as integers."""
    narrow = ir.VectorType(I8, LANES)
    return [
        builder.sext(emit_load(builder, at(builder, addr, LANES * col), narrow), VI)
        for col in range(cols)
    ]


@intrinsic
def tile_multiply(typing: Any, tile: Any, products: Any, multipliers: Any) -> Any:
    """tile[r, c] += products[r, c] * multipliers[c], all integers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source, addr = args
        factors = _multipliers(builder, addr, tile.cols)

        def step(acc: Any, r: int, c: int) -> Any:
            product = builder.extract_value(source, r * tile.cols + c)
            return builder.add(acc, builder.mul(product, factors[c]))

        return _for_each(builder, target, tile, step)

    return signature(tile, tile, products, ADDR), generate


@intrinsic
def unpack_nibbles(typing: Any, source: Any, multipliers: Any, out: Any) -> Any:
    """Bytes 128 + (q - 8) m of 32 inputs and 64 outputs at out, [input / 4][output][input % 4],
    from their nibbles q (as `tile_dot_nibbles` reads them) and multipliers m, 15 at most."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nibbles, addr, target = args
        pairs = ir.VectorType(I16, 2 * LANES)
        mask, low = constant(0x0F0F0F0F, VI), constant(0xFFFF, VI)
        # Two bytes are multiplied at once: that a product of 16 bits runs over from the lower into
        # the upper is undone by the addition, as no sum of a byte leaves 0..255.
        for col, m in enumerate(_multipliers(builder, addr, 4)):
            both = builder.or_(builder.and_(m, low), builder.shl(m, constant(16, VI)))
            offset = builder.sub(constant(128, VI), builder.shl(m, constant(3, VI)))
            offset = builder.and_(builder.mul(offset, constant(257, VI)), low)
            offset = builder.or_(offset, builder.shl(offset, constant(16, VI)))
            factor, offset = builder.bitcast(both, pairs), builder.bitcast(offset, pairs)
            for chunk in range(4):
                packed = emit_load(builder, at(builder, nibbles, 256 * chunk + 64 * col), VI)
                for half in range(2):
                    q = builder.lshr(packed, constant(4, VI)) if half else packed
                    q = builder.bitcast(builder.and_(q, mask), pairs)
                    value = builder.add(builder.mul(q, factor), offset)
                    place = at(builder, target, 512 * chunk + 256 * half + 64 * col)
                    emit_store(builder, place, value)
        return context.get_dummy_value()

    return signature(types.void, ADDR, ADDR, ADDR), generate


@intrinsic(prefer_literal=True)
def start_tile(typing: Any, rows: Any, cols: Any, a: Any, stride: Any) -> Any:
    """A tile of integers whose row r is all the 32-bit integer at a + r stride."""
    tile = Tile("i32", *_rows_and_cols(rows, cols))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        addresses = _row_addresses(builder, tile, args[2], args[3])
        values = [splat(builder, emit_load(builder, addr, I32)) for addr in addresses]
        empty = ir.Constant(context.get_value_type(tile), ir.Undefined)
        return _for_each(builder, empty, tile, lambda acc, r, c: values[r])

    return signature(tile, rows, cols, ADDR, ADDR), generate


def _tile_loader(lane: str) -> Any:
    @intrinsic(prefer_literal=True)
    def load(typing: Any, rows: Any, cols: Any, addr: Any, stride: Any) -> Any:
        tile = Tile(lane, *_rows_and_cols(rows, cols))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            addresses = _row_addresses(builder, tile, args[2], args[3])
            empty = ir.Constant(context.get_value_type(tile), ir.Undefined)
            kind = lane_type(lane)
            return _for_each(
                builder, empty, tile,
                lambda acc, r, c: emit_load(builder, at(builder, addresses[r], 64 * c), kind),
            )  # fmt: skip

        return signature(tile, rows, cols, ADDR, ADDR), generate

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
                emit_store(builder, at(builder, address, 64 * col), vector)
        return context.get_dummy_value()

    return signature(types.void, tile, ADDR, ADDR), generate
