"""The same made-up rows through two models: how far apart their answers are, and how long each
takes. It refuses to know which frameworks they are, and what is made of the figures.
"""

import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from inferd.backends.base import ModelDescription
from inferd.backends.completion import Run, made_up
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.types.datatype import BF16, DataType
from inferd.types.tensor import Array, TensorSpec

FREE_DIM = 64
"""Size given to dimensions that the model leaves free: more like a sentence than a probe's 8."""

MAX_ROUNDS = 9

PRECISIONS = ("auto", "bf16", "f16", "f32")


def asked_precision(config: ModelConfig) -> str:
    """What the parameter `precision` asks to compute in; `auto` where it is not set.

    Raises ConfigError.
    """
    asked = config.parameter("precision", "auto")
    if asked not in PRECISIONS:
        raise ConfigError(
            f"is '{asked}', expected one of {', '.join(PRECISIONS)}", field="parameters.precision"
        )
    return asked


def trial_rows(description: ModelDescription, rows: int, free: int = FREE_DIM) -> list[Array]:
    """Made-up inputs; `rows` of them where the model batches, every other one alike."""
    rng = np.random.default_rng(0)
    batched = description.max_batch_size > 0
    return [_rows(spec, rows if batched else 0, free, rng) for spec in description.inputs]


def _rows(spec: TensorSpec, rows: int, free: int, rng: np.random.Generator) -> Array:
    shape = tuple(free if dim < 0 else dim for dim in spec.shape)
    if not rows:
        return made_up(spec.datatype, shape, rng, 0)
    parts = [made_up(spec.datatype, (1, *shape[1:]), rng, row % 2) for row in range(rows)]
    return np.concatenate(parts)


def difference(
    wanted: Sequence[Array], found: Sequence[Array], outputs: Sequence[TensorSpec]
) -> float:
    """The largest difference in any output, as a part of the largest value of that output.

    Infinite where shapes differ, or anything but floats does.
    """
    worst = 0.0
    for spec, want, have in zip(outputs, wanted, found, strict=True):
        if want.shape != have.shape:
            return float("inf")
        if spec.datatype.kind != "float":
            worst = max(worst, 0.0 if np.array_equal(want, have) else float("inf"))
        elif want.size:
            worst = max(worst, _part(_float64(want, spec.datatype), _float64(have, spec.datatype)))
    return worst


def _part(want: Array, have: Array) -> float:
    finite = np.isfinite(want)
    if not np.array_equal(want[~finite], have[~finite], equal_nan=True):
        return float("inf")
    want, have = want[finite], have[finite]
    if not np.isfinite(have).all():
        return float("inf")
    largest = float(np.abs(want).max(initial=0.0))
    apart = float(np.abs(want - have).max(initial=0.0))
    return apart / largest if largest else apart


def _float64(array: Array, datatype: DataType) -> Array:
    if datatype is BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def medians(runs: Sequence[Run], inputs: list[Array], budget_s: float) -> list[float]:
    """Seconds that each takes for the inputs: they alternate, so that what else the machine does
    meets all of them, until the budget is spent. The first round, which is never typical, does not
    count unless it alone spends the budget.
    """
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + budget_s
    for _ in range(MAX_ROUNDS + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(inputs)
            taken.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return [median(taken[1:] or taken) for taken in times]
