"""Estimators of scikit-learn, alone, as ONNX and in folders of MLflow."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from trained.model import ROWS, Array, Trained, digits


def skops(folder: Path) -> Trained:
    import skops.io

    x, y = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=300).fit(x, y)
    path = folder / "iris.skops"
    skops.io.dump(estimator, path)
    return Trained(path, {"input": x[::30]}, _predictions(estimator, x[::30]))


def joblib(folder: Path) -> Trained:
    import joblib

    iris = load_iris()
    names = iris.target_names[iris.target]
    estimator = DecisionTreeClassifier(random_state=0).fit(iris.data, names)
    path = folder / "flowers.joblib"
    joblib.dump(estimator, path)
    rows = iris.data[::30]
    return Trained(path, {"input": rows}, _predictions(estimator, rows), trust=True)


def _predictions(estimator: Any, rows: Array) -> dict[str, Array]:
    predicted = estimator.predict(rows)
    if predicted.dtype.kind == "U":
        predicted = np.array([name.encode() for name in predicted], object)
    return {"predict": predicted, "predict_proba": estimator.predict_proba(rows)}


def onnx(folder: Path) -> Trained:
    import skl2onnx

    x, y = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged, and need not
        estimator = MLPClassifier((32,), max_iter=8, random_state=0).fit(x, y)
        made = skl2onnx.to_onnx(estimator, x[:1], options={"zipmap": False})
    path = folder / "digits.onnx"
    path.write_bytes(made.SerializeToString())
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    label, probabilities = session.run(None, {"X": x[:ROWS]})
    assert (label == estimator.predict(x[:ROWS])).all()
    return Trained(path, {"X": x[:ROWS]}, {"label": label, "probabilities": probabilities})


# -- MLflow ----------------------------------------------------------------------------------------


def mlflow_sklearn(folder: Path) -> Trained:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        x, y = load_iris(return_X_y=True)
        estimator = LogisticRegression(max_iter=300).fit(x, y)
        path = folder / "iris-mlflow"
        logging.getLogger("mlflow").setLevel("ERROR")  # it warns of what is meant here
        mlflow.sklearn.save_model(
            estimator, str(path), pip_requirements=[], serialization_format="cloudpickle"
        )
    return Trained(path, {"input": x[::30]}, _predictions(estimator, x[::30]), trust=True)


def mlflow_function(folder: Path) -> Trained:
    """Columns in, columns out, by code of the folder's own."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        iris = load_iris(as_frame=True)
        names = list(iris.target_names)
        estimator = LogisticRegression(max_iter=300).fit(iris.data, iris.target)

        warnings.simplefilter("ignore")  # again: importing MLflow has set its own

        class Flowers(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                found = estimator.predict(model_input)
                return {"flower": [names[n] for n in found], "number": found}

        path = folder / "flowers-mlflow"
        logging.getLogger("mlflow").setLevel("ERROR")
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(path), python_model=Flowers(), pip_requirements=[],
            signature=mlflow.models.infer_signature(iris.data),
        )  # fmt: skip
    rows = iris.data[::30]
    found = estimator.predict(rows)
    flowers = np.array([names[n].encode() for n in found], object)
    columns = {name: rows[name].to_numpy() for name in iris.data.columns}
    return Trained(path, columns, {"flower": flowers, "number": found}, trust=True)


def mlflow_xgboost(folder: Path) -> Trained:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.xgboost
        import xgboost

        x, y = load_breast_cancer(return_X_y=True)
        x = x.astype(np.float32)
        options = {"objective": "binary:logistic", "nthread": 1}
        booster = xgboost.train(options, xgboost.DMatrix(x, y), num_boost_round=12)
        path = folder / "cancer-mlflow"
        mlflow.xgboost.save_model(booster, str(path), pip_requirements=[])
    rows = x[::100]
    return Trained(path, {"input": rows}, {"predict": booster.predict(xgboost.DMatrix(rows))})
