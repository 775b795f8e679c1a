"""Trees of LightGBM, from its text files.

What Booster.predict gives: probabilities for classifiers, values otherwise. NaN is a missing
feature. Features are float64, as LightGBM compares them.
"""

import mmap
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from inferd.backends.base import OpenOptions
from inferd.backends.rows import RowModel, unreadable
from inferd.backends.tree_trial import try_reading
from inferd.config.model import ModelConfig
from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array

FEW_ROWS = 8
"""Fewer are predicted before other threads have begun."""

_ENDS = (b"end of trees", b"end of parameters")


class LightGBMBackend:
    """Opens `.txt` files."""

    name = "lightgbm"
    platform = "lightgbm"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        _check_end(path)
        library: Any = lightgbm.basic
        try_reading("LightGBM", self.name, library._LIB._name, path)
        try:
            booster = lightgbm.Booster(model_file=str(path))
        except Exception as error:
            raise unreadable("LightGBM", path, error) from error

        def predict(rows: Array) -> Array:
            threads = 1 if len(rows) < FEW_ROWS else options.threads
            return np.asarray(booster.predict(rows, num_threads=threads))

        features = booster.num_feature()
        return RowModel(self.name, predict, features, DATATYPES["FP64"], config, options.threads)


def _check_end(path: Path) -> None:
    """Raises BackendError for a file that ends too early, of which LightGBM sees less than half."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if text.find(b"\nversion=v2", 0, 64) >= 0:
                return  # these had no marks
            wanted = _ENDS if text.rfind(b"\nparameters:") >= 0 else _ENDS[:1]
            missing = [mark.decode() for mark in wanted if text.rfind(b"\n" + mark) < 0]
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise unreadable("LightGBM", path, error) from error
    if missing:
        raise BackendError(
            f"LightGBM cannot load {path.name}: it is damaged, there is no '{missing[0]}'"
        )
