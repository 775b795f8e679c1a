"""Each framework's model as a function of a batch, called as its documentation says, on so many
threads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating[Any]]
Run = Callable[[Rows], NDArray[Any]]


def open_onnxruntime(path: Path, threads: int) -> Run:
    """A session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    return lambda rows: session.run(None, {"x": rows})[0]


def open_openvino(path: Path, threads: int) -> Run:
    """A compiled model in the precision that OpenVINO chooses for the machine."""
    import openvino

    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(path, "CPU", properties)
    request = model.create_infer_request()
    return lambda rows: request.infer([rows], share_inputs=True)[0]


def open_torchscript(path: Path, threads: int) -> Run:
    """Frozen, which is the fastest that it is offered as."""
    import torch

    torch.set_num_threads(threads)
    return _torch_run(torch.jit.freeze(torch.jit.load(str(path)).eval()))


def open_pt2(path: Path, threads: int) -> Run:
    """The exported program's module."""
    import torch

    torch.set_num_threads(threads)
    return _torch_run(torch.export.load(str(path)).module())


def _torch_run(module: Any) -> Run:
    import torch

    def run(rows: Rows) -> NDArray[Any]:
        with torch.inference_mode():
            found: NDArray[Any] = module(torch.from_numpy(rows)).numpy()
        return found

    return run


def open_savedmodel(path: Path, threads: int) -> Run:
    """The function of its signature."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]

    def run(rows: Rows, _kept: Any = loaded) -> NDArray[Any]:
        found: NDArray[Any] = function(x=tf.constant(rows))["y"].numpy()
        return found

    return run


def open_tflite(path: Path, threads: int) -> Run:
    """An interpreter, given the batch's size when it changes."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=threads)
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    size = 0

    def run(rows: Rows) -> NDArray[Any]:
        nonlocal size
        if size != len(rows):
            size = len(rows)
            interpreter.resize_tensor_input(source, rows.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source, rows)
        interpreter.invoke()
        found: NDArray[Any] = interpreter.get_tensor(target)
        return found

    return run


def open_xgboost(path: Path, threads: int) -> Run:
    """In place, which needs no DMatrix."""
    import xgboost

    booster = xgboost.Booster({"nthread": threads}, model_file=path)
    return lambda rows: booster.inplace_predict(rows)


def open_lightgbm(path: Path, threads: int) -> Run:
    """A booster."""
    import lightgbm

    booster = lightgbm.Booster(model_file=path)
    return lambda rows: booster.predict(rows, num_threads=threads)


def open_catboost(path: Path, threads: int) -> Run:
    """A model."""
    import catboost

    model = catboost.CatBoost().load_model(str(path))
    return lambda rows: model.predict(rows, thread_count=threads)


OPENERS: dict[str, Callable[[Path, int], Run]] = {
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "torchscript": open_torchscript,
    "pt2": open_pt2,
    "savedmodel": open_savedmodel,
    "tflite": open_tflite,
    "xgboost": open_xgboost,
    "lightgbm": open_lightgbm,
    "catboost": open_catboost,
}
