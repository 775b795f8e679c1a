"""Models trained on scikit-learn's bundled data and saved as the users of each framework save them,
with the framework's own predictions for some rows.

Frameworks are imported by the function that needs them. Of inferd it knows only how TensorFlow is
imported.
"""

from collections.abc import Callable
from pathlib import Path

from trained import estimators, networks, trees
from trained.model import Trained

MAKERS: dict[str, Callable[[Path], Trained]] = {
    "onnx": estimators.onnx,
    "openvino": networks.openvino,
    "torchscript": networks.torchscript,
    "torch-export": networks.exported,
    "saved-model": networks.saved_model,
    "keras": networks.keras,
    "tflite": networks.tflite,
    "skops": estimators.skops,
    "joblib": estimators.joblib,
    "xgboost": trees.xgboost,
    "xgboost-ubj": lambda folder: trees.xgboost(folder, ".ubj"),
    "lightgbm": trees.lightgbm,
    "catboost": trees.catboost,
    "mlflow-sklearn": estimators.mlflow_sklearn,
    "mlflow-function": estimators.mlflow_function,
    "mlflow-xgboost": estimators.mlflow_xgboost,
}
"""One for each kind of file and folder that is tensors in and out."""
