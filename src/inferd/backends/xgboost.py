"""Trees of XGBoost, from `.json` and `.ubj`.

What Booster.predict gives: probabilities, classes, margins or values as the objective has it. NaN
is a missing feature. Features are float32, as XGBoost holds them.
"""

from pathlib import Path

import xgboost

from inferd.backends.base import OpenOptions
from inferd.backends.rows import RowModel, unreadable
from inferd.config.model import ModelConfig
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array


class XGBoostBackend:
    """Opens `.json` and `.ubj` files."""

    name = "xgboost"
    platform = "xgboost"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except Exception as error:
            raise unreadable("XGBoost", path, error) from error
        booster.set_param({"nthread": options.threads})

        def predict(rows: Array) -> Array:
            found: Array = booster.inplace_predict(rows, validate_features=False)
            return found

        features = booster.num_features()
        return RowModel(self.name, predict, features, DATATYPES["FP32"], config, options.threads)
