"""Trees of LightGBM, from its text files.

What Booster.predict gives: probabilities for classifiers, values otherwise. NaN is a missing
feature. Features are float64, as LightGBM compares them.
"""

from pathlib import Path

import lightgbm
import numpy as np

from inferd.backends.base import OpenOptions
from inferd.backends.rows import RowModel, unreadable
from inferd.config.model import ModelConfig
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array


class LightGBMBackend:
    """Opens `.txt` files."""

    name = "lightgbm"
    platform = "lightgbm"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        try:
            booster = lightgbm.Booster(model_file=str(path))
        except Exception as error:
            raise unreadable("LightGBM", path, error) from error

        def predict(rows: Array) -> Array:
            return np.asarray(booster.predict(rows, num_threads=options.threads))

        features = booster.num_feature()
        return RowModel(self.name, predict, features, DATATYPES["FP64"], config, options.threads)
