"""Handwritten digits, learnt when the model loads."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import inferd

Images = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 64)]


class Digits(inferd.Model, max_batch_size=64):
    """Reads handwritten digits of 8 by 8 pixels, from 0 (white) to 16 (black)."""

    def load(self) -> None:
        images, digits = load_digits(return_X_y=True)
        self.classifier = SVC(gamma=0.001).fit(images[:1500], digits[:1500])

    def predict(self, image: Images) -> list[int]:
        return self.classifier.predict(image).tolist()
