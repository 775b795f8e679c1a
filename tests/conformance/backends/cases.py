"""A small model for each backend, with what its framework says of some rows. To add a backend, add
a line to CASES."""

from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from backends import onnx_models, test_trees
from inferd.backends.base import OpenOptions
from inferd.backends.conformance import Case
from inferd.backends.registry import create_backend

ROWS = 5


def onnx(folder: Path) -> Case:
    path = folder / "model.onnx"
    path.write_bytes(onnx_models.two_outputs())
    rows = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
    outputs = (rows.sum(axis=1, keepdims=True), rows.astype(np.int64))
    return Case(create_backend("onnxruntime"), path, (rows,), outputs)


def trees(maker: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        path, rows, predictions = test_trees.MAKERS[maker]("several", folder)
        backend = create_backend(maker.partition("-")[0])
        return Case(backend, path, (rows[:ROWS],), (predictions[:ROWS],))

    return make


def sklearn(folder: Path) -> Case:
    x, y = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=300).fit(x, y)
    path = folder / "model.skops"
    skops.io.dump(estimator, path)
    outputs = (estimator.predict(x[::30]), estimator.predict_proba(x[::30]))
    return Case(create_backend("sklearn"), path, (x[::30],), outputs)


def pickled(folder: Path) -> Case:
    iris = load_iris()
    estimator = DecisionTreeClassifier(random_state=0)
    estimator.fit(iris.data, iris.target_names[iris.target])
    path = folder / "model.joblib"
    joblib.dump(estimator, path)
    rows = iris.data[::30]
    classes = np.array([name.encode() for name in estimator.predict(rows)], object)
    outputs = (classes, estimator.predict_proba(rows))
    options = OpenOptions(trust=True)
    return Case(create_backend("sklearn"), path, (rows,), outputs, options=options)


def python(folder: Path) -> Case:
    path = folder / "model.py"
    path.write_text(PYTHON)
    rows = np.arange(ROWS * 2, dtype=np.float32).reshape(ROWS, 2)
    return Case(create_backend("python"), path, (rows,), (rows * 2, rows.sum(axis=1)))


PYTHON = """
from dataclasses import dataclass
from typing import Annotated
import numpy as np
import numpy.typing as npt
import inferd

@dataclass
class Result:
    same: Annotated[npt.NDArray[np.float32], inferd.Shape(2)]
    sums: np.float32

class Twice(inferd.Model, max_batch_size=8):
    def predict(
        self, x: Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)]
    ) -> list[Result]:
        return [Result(row * 2, row.sum()) for row in x]
"""


CASES: dict[str, Callable[[Path], Case]] = {
    "onnxruntime": onnx,
    "xgboost": trees("xgboost"),
    "xgboost-ubj": trees("xgboost-ubj"),
    "lightgbm": trees("lightgbm"),
    "catboost": trees("catboost"),
    "python": python,
    "sklearn": sklearn,
    "sklearn-joblib": pickled,
}
