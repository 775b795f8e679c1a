"""The model: a small neural network on scikit-learn's handwritten digits, as an ONNX file.

The images (1,797 of 8 x 8 pixels) come with scikit-learn: nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

Array = np.ndarray[Any, np.dtype[Any]]

EPOCHS = 40


@dataclass(frozen=True, slots=True)
class Digits:
    """Images as rows of 64 brightnesses from 0 to 16, and the digits that they show."""

    train_images: Array
    test_images: Array
    train_labels: Array
    test_labels: Array


def load_images() -> Digits:
    """Three quarters to learn from, one quarter to be asked about."""
    images, labels = load_digits(return_X_y=True)
    return Digits(
        *train_test_split(
            images.astype(np.float32), labels, test_size=0.25, stratify=labels, random_state=0
        )
    )


def train(digits: Digits, after_epoch: Callable[[], None]) -> Pipeline:
    """Scale, then learn for EPOCHS rounds."""
    scaler = StandardScaler().fit(digits.train_images)
    scaled = scaler.transform(digits.train_images)
    network = MLPClassifier(hidden_layer_sizes=(64,), random_state=0)
    classes = np.unique(digits.train_labels)
    for _ in range(EPOCHS):
        network.partial_fit(scaled, digits.train_labels, classes=classes)
        after_epoch()
    return Pipeline([("scale", scaler), ("classify", network)])


def export(classifier: Pipeline, path: Path) -> None:
    """Write the ONNX file; without zipmap, so that the probabilities are a tensor."""
    row = np.zeros((1, 64), np.float32)
    onnx_model = to_onnx(classifier, row, options={"zipmap": False})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(onnx_model.SerializeToString())
