"""What a maker of a trained model hands out, and the data that models are trained on."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 5
PATCH = 24


@dataclass(frozen=True)
class Trained:
    """A file or folder, arrays for its inputs by name, and what its framework says of them.

    `trust` says that reading it runs code.
    """

    path: Path
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    trust: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    """What a configuration must say for the framework's own to be exact."""


@cache
def digits() -> tuple[Array, Array]:
    """Handwritten digits as rows FP32 [n,64] within 0 to 1, and which digit each is."""
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target


@cache
def patches() -> tuple[Array, Array]:
    """Patches FP32 [n,24,24,3] of the two bundled photographs, and of which of them each is."""
    found, labels = [], []
    for label, picture in enumerate(load_sample_images().images):
        for top in range(0, picture.shape[0] - PATCH, PATCH):
            for left in range(0, picture.shape[1] - PATCH, PATCH):
                found.append(picture[top : top + PATCH, left : left + PATCH])
                labels.append(label)
    order = np.random.default_rng(0).permutation(len(found))[:320]
    return (np.stack(found)[order] / 255).astype(np.float32), np.array(labels)[order]
