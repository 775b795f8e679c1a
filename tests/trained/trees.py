"""Gradient-boosted trees."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris

from trained.model import Trained


def xgboost(folder: Path, suffix: str = ".json") -> Trained:
    import xgboost

    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    booster = xgboost.train(options, xgboost.DMatrix(x, y), num_boost_round=12)
    path = folder / f"model{suffix}"
    booster.save_model(path)
    rows = x[::30]
    return Trained(path, {"input": rows}, {"predict": booster.predict(xgboost.DMatrix(rows))})


def lightgbm(folder: Path) -> Trained:
    import lightgbm

    x, y = load_breast_cancer(return_X_y=True)
    options = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y), num_boost_round=12)
    path = folder / "cancer.txt"
    booster.save_model(path)
    rows = x[::100]
    return Trained(path, {"input": rows}, {"predict": booster.predict(rows)})


def catboost(folder: Path) -> Trained:
    import catboost

    x, y = load_iris(return_X_y=True)
    options = {"iterations": 12, "verbose": False, "allow_writing_files": False, "thread_count": 1}
    classifier = catboost.CatBoostClassifier(**options).fit(x, y)
    path = folder / "iris.cbm"
    classifier.save_model(str(path))
    rows = x[::30]
    return Trained(path, {"input": rows}, {"predict": classifier.predict_proba(rows)})
