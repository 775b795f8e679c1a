"""Trees of XGBoost, from `.json` and `.ubj`.

What Booster.predict gives: probabilities, classes, margins or values as the objective has it. NaN
is a missing feature. Features are float32, as XGBoost holds them.
"""

from pathlib import Path

import xgboost
from xgboost.libpath import find_lib_path

from inferd.backends.base import OpenOptions
from inferd.backends.rows import RowModel, unreadable
from inferd.backends.tree_trial import try_reading
from inferd.config.model import ModelConfig
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array

BLOCK_ROWS = 64


class XGBoostBackend:
    """Opens `.json` and `.ubj` files."""

    name = "xgboost"
    platform = "xgboost"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        try_reading("XGBoost", self.name, find_lib_path()[0], path)
        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except Exception as error:
            raise unreadable("XGBoost", path, error) from error
        # XGBoost gives each thread a block of rows: with one block, others would only wait.
        threads = options.threads if (config.max_batch_size or 0) > BLOCK_ROWS else 1
        booster.set_param({"nthread": threads})

        def predict(rows: Array) -> Array:
            found: Array = booster.inplace_predict(rows, validate_features=False)
            return found

        features = booster.num_features()
        return RowModel(self.name, predict, features, DATATYPES["FP32"], config, threads)
