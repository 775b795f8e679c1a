"""A small model for each backend, with what its framework says of some rows. To add a backend, add
a line to CASES."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import trained
from backends import onnx_models
from inferd.backends.base import OpenOptions
from inferd.backends.conformance import Case
from inferd.backends.registry import create_backend
from inferd.config.model import ModelConfig

ROWS = 5
EXACT = ModelConfig(parameters={"precision": "f32"})
"""What OpenVINO has to be told to be as exact as others."""


def onnx(backend: str, **more: Any) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        path = folder / "model.onnx"
        path.write_bytes(onnx_models.two_outputs())
        rows = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
        outputs = (rows.sum(axis=1, keepdims=True), rows.astype(np.int64))
        return Case(create_backend(backend), path, (rows,), outputs, **more)

    return make


def framework(
    backend: str, maker: str, config: ModelConfig | None = None, **more: Any
) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        model = trained.MAKERS[maker](folder)
        return Case(
            create_backend(backend), model.path, (*model.inputs.values(),),
            (*model.outputs.values(),), config or ModelConfig(**model.config),
            OpenOptions(1, model.trust), **more,
        )  # fmt: skip

    return make


def encoder(folder: Path) -> Case:
    import torch
    import transformers

    from backends.encoders import tiny

    path = tiny.copy_of(tiny.saved("BertModel"), folder / "encoder")
    texts = ["the cat sat on a mat", "who", "anna lives in paris", "where"]
    said = transformers.AutoTokenizer.from_pretrained(path)(
        texts, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        states = transformers.AutoModel.from_pretrained(path)(**said).last_hidden_state
    mask = said["attention_mask"][..., None]
    vectors = (states * mask).sum(1) / mask.sum(1)
    tokens = said["attention_mask"].sum(1).numpy().astype(np.int32)
    outputs = (vectors.numpy(), tokens, np.zeros(len(texts), bool))
    rows = np.array([text.encode() for text in texts], object)
    # Texts of other lengths in a batch are rounded otherwise.
    return Case(create_backend("transformers"), path, (rows,), outputs, rtol=1e-4, atol=1e-5)


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
    "onnxruntime": onnx("onnxruntime"),
    "onnx": onnx("onnx", says=("onnxruntime", "onnxruntime_onnx")),
    "openvino": framework("openvino", "openvino"),
    "openvino-onnx": onnx("openvino", config=EXACT),
    "openvino-tflite": framework("openvino", "tflite", EXACT),
    "torch": framework("torch", "torchscript"),
    "torch-export": framework("torch", "torch-export", says=("torch", "pytorch_export")),
    "tensorflow": framework("tensorflow", "saved-model"),
    "tensorflow-keras": framework("tensorflow", "keras", says=("tensorflow", "tensorflow_keras")),
    "tensorflow-lite": framework("tensorflow", "tflite", says=("tensorflow", "tensorflow_lite")),
    "mlflow": framework("mlflow", "mlflow-function"),
    "mlflow-flavour": framework("mlflow", "mlflow-xgboost", says=("xgboost", "xgboost")),
    "transformers": encoder,
    "xgboost": framework("xgboost", "xgboost"),
    "xgboost-ubj": framework("xgboost", "xgboost-ubj"),
    "lightgbm": framework("lightgbm", "lightgbm"),
    "catboost": framework("catboost", "catboost"),
    "python": python,
    "sklearn": framework("sklearn", "skops"),
    "sklearn-joblib": framework("sklearn", "joblib"),
}
