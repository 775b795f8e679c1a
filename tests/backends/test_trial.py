"""How two models are compared: what counts as a difference, and what a trial feeds them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inferd.backends.base import ModelDescription
from inferd.backends.completion import observed_shapes
from inferd.backends.trial import difference, medians, trial_rows
from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array, TensorSpec

INF = float("inf")


def spec(kind: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", DATATYPES[kind], shape)


@pytest.mark.parametrize(
    ("kind", "wanted", "found", "apart"),
    [
        ("FP32", [1, -4], [1, -4], 0), ("FP32", [1, -4], [2, -4], 0.25),
        ("FP32", [0, 0], [0, 0.5], 0.5), ("FP32", [1, 2], [1, 2, 3], INF),
        ("FP32", [np.nan, 2], [np.nan, 2], 0), ("FP32", [np.nan, 2], [1, 2], INF),
        ("FP32", [np.inf, 2], [np.inf, 1], 0.5), ("FP32", [1, 2], [np.inf, 2], INF),
        ("INT64", [1, 2], [1, 2], 0), ("INT64", [1, 2], [1, 3], INF),
        ("BYTES", [b"a"], [b"b"], INF), ("BF16", [0x3F80, 0x4000], [0x3F80, 0x3F80], 0.5),
        ("FP32", [], [], 0),
    ],
)  # fmt: skip
def test_the_difference_is_a_part_of_the_largest_value(
    kind: str, wanted: list[Any], found: list[Any], apart: float
) -> None:
    dtype = DATATYPES[kind].dtype
    arrays = np.array(wanted, dtype), np.array(found, dtype)
    assert difference([arrays[0]], [arrays[1]], [spec(kind, -1)]) == apart


def test_rows_of_a_trial_have_the_shapes_of_the_model() -> None:
    def described(size: int, *specs: TensorSpec) -> ModelDescription:
        return ModelDescription("p", "b", size, specs, ())

    ids, pixels = trial_rows(described(8, spec("INT64", -1, -1), spec("FP32", -1, 3)), 5, 16)
    assert (ids.shape, ids.dtype, pixels.shape, pixels.dtype) == (
        (5, 16), np.int64, (5, 3), np.float32,
    )  # fmt: skip
    assert set(ids.ravel().tolist()) == {0, 1}
    (whole,) = trial_rows(described(0, spec("FP32", 2, -1)), 5, 16)
    assert whole.shape == (2, 16)


def test_runs_alternate_until_the_budget_is_spent() -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[list[Array]], list[Array]]:
        def run(inputs: list[Array]) -> list[Array]:
            order.append(name)
            return inputs

        return run

    assert len(medians([named("a"), named("b")], [], budget_s=0)) == 2
    assert order == ["a", "b"]
    order.clear()
    medians([named("a"), named("b")], [], budget_s=60)
    assert order == ["a", "b"] * 10


def test_what_changes_with_the_inputs_is_free() -> None:
    def shapes(arrays: list[Array]) -> list[tuple[int, ...]]:
        rows, size = arrays[0].shape
        return [(rows, 7), (rows * size,), ()]

    assert observed_shapes(shapes, [spec("FP32", -1, -1)]) == [(-1, 7), (-1,), ()]
    assert observed_shapes(shapes, [spec("FP32", 4, 5)]) == [(4, 7), (20,), ()]


def test_a_number_of_dimensions_that_changes_is_an_error() -> None:
    def shapes(arrays: list[Array]) -> list[tuple[int, ...]]:
        return [(1,) * len(arrays[0])]

    with pytest.raises(BackendError, match="number of dimensions"):
        observed_shapes(shapes, [spec("FP32", -1)])
