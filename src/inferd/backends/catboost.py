"""Trees of CatBoost, from `.cbm`.

Classifiers give a probability for each class, whose names are the output's labels; others give
values. NaN is a missing feature. Models with categorical or text features take text in some columns
and numbers in others, which one tensor cannot hold: they are refused.
"""

from pathlib import Path

import catboost

from inferd.backends.base import OpenOptions
from inferd.backends.rows import RowModel, unreadable
from inferd.backends.tree_trial import try_reading
from inferd.config.model import ModelConfig
from inferd.errors import Unsupported
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array

FEW_ROWS = 64
"""Fewer are predicted before other threads have begun."""


class CatBoostBackend:
    """Opens `.cbm` files."""

    name = "catboost"
    platform = "catboost"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        try_reading("CatBoost", self.name, "", path)
        model = catboost.CatBoost()
        try:
            model.load_model(str(path), format="cbm")
        except Exception as error:
            raise unreadable("CatBoost", path, error) from error
        other = [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]
        if other:
            raise Unsupported(
                f"columns {other} of {path.name} are categories or text, and one tensor holds "
                "numbers or text, not both; encode them as numbers before training"
            )
        labels = tuple(str(name) for name in model.classes_)
        kind = "Probability" if labels else "RawFormulaVal"

        def predict(rows: Array) -> Array:
            threads = 1 if len(rows) < FEW_ROWS else options.threads
            found: Array = model.predict(rows, prediction_type=kind, thread_count=threads)
            return found

        features = len(model.feature_names_)
        return RowModel(
            self.name, predict, features, DATATYPES["FP64"], config, options.threads, labels
        )
