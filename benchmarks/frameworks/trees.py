"""Gradient-boosted trees over the same rows, in the files of the three frameworks of trees."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.frameworks.table import DEPTH, FEATURES, TREES

SEED = 20240501
ROWS = 5000

Table = tuple[NDArray[np.float32], NDArray[np.float32]]


def table() -> Table:
    """Features and a value that depends on them, with noise, so that trees grow to their depth."""
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    values = np.sin(rows[:, :8]).sum(axis=1) + rows[:, 8] * rows[:, 9]
    return rows, (values + random.normal(size=ROWS)).astype(np.float32)


def write_xgboost(path: Path) -> None:
    """A regression; an answer is one number."""
    import xgboost

    rows, values = table()
    data = xgboost.DMatrix(rows, values)
    options = {"max_depth": DEPTH, "eta": 0.05, "tree_method": "hist", "seed": 1}
    xgboost.train(options, data, TREES).save_model(path)


def write_lightgbm(path: Path) -> None:
    """The same, with as many leaves as a tree of that depth has."""
    import lightgbm

    rows, values = table()
    options = {"num_leaves": 1 << DEPTH, "learning_rate": 0.05, "seed": 1, "verbose": -1}
    lightgbm.train(options, lightgbm.Dataset(rows, values), TREES).save_model(path)


def write_catboost(path: Path) -> None:
    """The same."""
    import catboost

    rows, values = table()
    model = catboost.CatBoostRegressor(
        iterations=TREES, depth=DEPTH, learning_rate=0.05, random_seed=1, verbose=False,
        allow_writing_files=False,
    )  # fmt: skip
    model.fit(rows, values)
    model.save_model(str(path))


WRITERS = {
    "xgboost": write_xgboost,
    "lightgbm": write_lightgbm,
    "catboost": write_catboost,
}
