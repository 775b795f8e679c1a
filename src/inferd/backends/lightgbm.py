"""Trees of LightGBM, from its text files.

What Booster.predict gives: probabilities for classifiers, values otherwise. NaN is a missing
feature. Features are float64, as LightGBM compares them.
"""

from pathlib import Path

import lightgbm

from inferd.backends.rows import RowModel, unreadable
from inferd.config.model import ModelConfig
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array


class LightGBMBackend:
    """Opens `.txt` files."""

    name = "lightgbm"
    platform = "lightgbm"

    def open(self, path: Path, config: ModelConfig, threads: int) -> RowModel:
        """Open a model file; see Backend."""
        try:
            booster = lightgbm.Booster(model_file=str(path))
        except Exception as error:
            raise unreadable("LightGBM", path, error) from error

        def predict(rows: Array) -> Array:
            found: Array = booster.predict(rows, num_threads=threads)
            return found

        features = booster.num_feature()
        return RowModel(self.name, predict, features, DATATYPES["FP64"], config, threads)
