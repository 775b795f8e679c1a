"""Products of all forms against numpy, for row counts around every tile, from packed rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inferd.engine.kernels.elementwise import Form, Norm
from inferd.engine.kernels.emit import HAS_BF16
from inferd.engine.kernels.linear import PANEL, SCRATCH_BYTES, Linear, Mode
from inferd.engine.kernels.linear_i4 import BLOCK, BLOCK_HEAD, GROUP_BYTES
from inferd.engine.kernels.pack import pack_panels, panel_bytes
from inferd.engine.kernels.program import Code, Team, aligned, operation

FORMS = {"f32": 0, "bf16": 1, "i8": 2, "i4": 3}
CODES = {
    "i8": Code.LINEAR_I8, "i4": Code.LINEAR_I4, "bf16": Code.LINEAR_BF16, "f32": Code.LINEAR_F32,
}  # fmt: skip
OPERANDS = {
    "i8": Form.I8, "i4": Form.I8_GROUPS, "bf16": Form.BF16 if HAS_BF16 else Form.F32,
    "f32": Form.F32,
}  # fmt: skip
TOLERANCE = {"i8": 0.02, "i4": 0.12, "bf16": 0.01, "f32": 1e-5}


@pytest.fixture(scope="module")
def team() -> Team:
    return Team(2, 8)


class Product:
    """A packed weight and the operations to multiply rows with it."""

    def __init__(self, weight: NDArray[np.float32], form: str, bias: bool = False) -> None:
        outputs, inputs = weight.shape
        self.form, self.inputs = form, inputs
        self.panels = -(-outputs // PANEL)
        width = self.panels * PANEL
        self.memory = aligned(self.panels * panel_bytes(form, inputs))
        self.scales = aligned(4 * width).view(np.float32)
        self.weight = np.ascontiguousarray(weight)
        rows = np.zeros(width, np.int64)
        rows[:outputs] = self.weight.ctypes.data + np.arange(outputs) * 4 * inputs
        scratch = np.empty(4 * inputs + 128, np.uint8)
        pack_panels(
            FORMS[form], rows, 0, inputs, panel_bytes(form, inputs), self.memory.ctypes.data,
            self.scales.ctypes.data, 0, self.panels, scratch.ctypes.data,
        )  # fmt: skip
        self.width = width
        self.bias = np.linspace(-1, 1, width).astype(np.float32) if bias else None

    def run(
        self, team: Team, x: NDArray[np.float32], mode: Mode = Mode.STORE
    ) -> NDArray[np.float32]:
        count = len(x)
        x = np.ascontiguousarray(x, np.float32)
        operand = aligned(count * self.inputs * 4)
        scales = aligned(4 * count)
        sums = aligned(4 * count * self.inputs)
        scratch = aligned(2 * max(SCRATCH_BYTES, 4 * self.inputs))
        counts = np.array([count], np.int64)
        y = aligned(count * self.width * 4).view(np.float32).reshape(count, self.width)
        y[:] = 1.0
        convert = operation(Code.NORM, {
            Norm.ROWS: counts.ctypes.data, Norm.X: x.ctypes.data, Norm.X_STRIDE: x.strides[0],
            Norm.SIZE: self.inputs, Norm.OUT: operand.ctypes.data, Norm.OUT_STRIDE: 4 * self.inputs,
            Norm.SCALES: scales.ctypes.data, Norm.SUMS: sums.ctypes.data,
            Norm.FORM: OPERANDS[self.form], Norm.SCRATCH: scratch.ctypes.data,
        })  # fmt: skip
        product = operation(CODES[self.form], {
            Linear.ROWS: counts.ctypes.data, Linear.X: operand.ctypes.data,
            Linear.X_STRIDE: 4 * self.inputs,
            Linear.X_SCALES: scales.ctypes.data if self.form in ("i8", "i4") else 0,
            Linear.X_SUMS: sums.ctypes.data, Linear.WEIGHTS: self.memory.ctypes.data,
            Linear.W_SCALES: self.scales.ctypes.data if self.form == "i8" else 0,
            Linear.BIAS: 0 if self.bias is None else self.bias.ctypes.data,
            Linear.PANELS: self.panels, Linear.INPUTS: self.inputs, Linear.Y: y.ctypes.data,
            Linear.Y_STRIDE: y.strides[0], Linear.MODE: mode, Linear.SHARE: 1,
            Linear.SCRATCH: scratch.ctypes.data,
        })  # fmt: skip
        team.run(np.stack([convert, product]), 2)
        return y


def made(outputs: int, inputs: int, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(outputs + rows)
    weight = random.normal(size=(outputs, inputs)).astype(np.float32)
    return weight, random.normal(size=(rows, inputs)).astype(np.float32)


def error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 40])
def test_a_product_is_numpys(team: Team, form: str, rows: int) -> None:
    weight, x = made(200, 96, rows)
    y = Product(weight, form).run(team, x)
    assert error(y[:, :200], x @ weight.T) < TOLERANCE[form]


@pytest.mark.parametrize("form", FORMS)
def test_bias_and_addition(team: Team, form: str) -> None:
    weight, x = made(128, 64, 5)
    product = Product(weight, form, bias=True)
    assert product.bias is not None
    plain = x @ weight.T + product.bias
    assert error(product.run(team, x), plain) < TOLERANCE[form]
    assert error(product.run(team, x, Mode.ADD), plain + 1) < TOLERANCE[form]


def unpacked_i4(product: Product, outputs: int) -> NDArray[np.float32]:
    """The weights that were kept, from the bytes that `linear_i4` describes."""
    panels = product.memory.reshape(product.panels, -1)
    rows = np.zeros((product.panels, PANEL, product.inputs), np.float32)
    at = 0
    for first in range(0, product.inputs, BLOCK):
        scales = panels[:, at : at + BLOCK_HEAD].copy().view(np.float16).astype(np.float32)
        at += BLOCK_HEAD
        for group in range(first, min(first + BLOCK, product.inputs), 32):
            multipliers = panels[:, at : at + PANEL].copy().view(np.int8)
            packed = panels[:, at + PANEL : at + GROUP_BYTES].reshape(-1, 4, PANEL, 4)
            nibbles = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - 8
            numbers = nibbles.transpose(0, 2, 1, 3).reshape(-1, PANEL, 32)
            rows[:, :, group : group + 32] = numbers * (scales * multipliers)[..., None]
            at += GROUP_BYTES
    return rows.reshape(-1, product.inputs)[:outputs]


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 200])
@pytest.mark.parametrize("inputs", [128, 256, 544])
def test_int4_is_exact_but_for_the_rounding_of_weights(team: Team, rows: int, inputs: int) -> None:
    weight, x = made(100, inputs, rows)
    product = Product(weight, "i4")
    kept = unpacked_i4(product, 100)
    assert error(product.run(team, x)[:, :100], x @ kept.T) < 0.01
    assert error(kept, weight) < 0.09


def test_int4_gives_a_row_the_same_alone_and_among_many(team: Team) -> None:
    weight, x = made(128, 544, 200)
    product = Product(weight, "i4")
    together = product.run(team, x)
    for first, end in ((0, 1), (1, 3), (3, 6), (6, 10), (10, 35)):
        assert error(product.run(team, x[first:end]), together[first:end]) < 1e-6


def test_int4_rounds_no_worse_than_q4_0() -> None:
    """llama.cpp's rounding of the same weights: the largest magnitude of a group becomes -8."""
    weight, _ = made(64, 256, 1)
    groups = weight.reshape(64, -1, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    scale = (extreme / -8).astype(np.float16).astype(np.float32)
    q4_0 = (np.clip(np.floor(groups / scale + 8.5), 0, 15) - 8) * scale
    ours = error(unpacked_i4(Product(weight, "i4"), 64), weight)
    theirs = error(q4_0.reshape(weight.shape), weight)
    print(f"int4 {ours:.4f}, Q4_0 {theirs:.4f}")
    assert ours < 0.99 * theirs


@pytest.mark.parametrize("form", ["i8", "i4"])
def test_an_empty_row_of_x_and_of_w_gives_zero(team: Team, form: str) -> None:
    weight, x = made(64, 64, 3)
    weight[5] = 0
    x[1] = 0
    y = Product(weight, form).run(team, x)
    assert (y[1] == 0).all()
    assert (y[:, 5] == 0).all()
    assert np.isfinite(y).all()
