"""Networks of torch, OpenVINO and TensorFlow."""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from trained.model import PATCH, ROWS, Trained, digits, patches


@cache
def torch_net() -> Any:
    """A net of torch that knows most digits."""
    import torch

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(array) for array in digits())
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    net = torch.nn.Sequential(*layers, torch.nn.Softmax(-1))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(net(x).log(), y).backward()
        optimizer.step()
    assert (net(x).argmax(1) == y).float().mean() > 0.8
    return net.eval()


def _torch(path: Path, save: Callable[[Any, Any], None], trust: bool) -> Trained:
    import torch

    rows = digits()[0][:ROWS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(torch_net(), torch.from_numpy(rows))
    with torch.inference_mode():
        wanted = torch_net()(torch.from_numpy(rows)).numpy()
    return Trained(path, {"input": rows}, {"OUTPUT__0": wanted}, trust)


def torchscript(folder: Path) -> Trained:
    import torch

    path = folder / "digits.pt"
    return _torch(path, lambda net, x: torch.jit.trace(net, x).save(str(path)), False)


def exported(folder: Path) -> Trained:
    import torch

    path = folder / "digits.pt2"

    def save(net: Any, x: Any) -> None:
        rows = {0: torch.export.Dim("rows", min=1, max=4096)}
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=(rows,)), path)

    return _torch(path, save, True)


def openvino(folder: Path) -> Trained:
    import openvino
    import torch

    rows = digits()[0][:ROWS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(torch_net(), example_input=torch.from_numpy(rows))
    model.reshape([-1, 64])
    model.outputs[0].set_names({"y"})
    path = folder / "digits.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(path, "CPU", hints)(rows)[0]
    exact = {"parameters": {"precision": "f32"}}
    return Trained(path, {"input": rows}, {"y": found}, config=exact)


@cache
def keras_net() -> Any:
    """A small convolutional net of Keras that tells the patches of the two photographs apart."""
    from inferd.backends.tensorflow_runtime import tensorflow

    tf = tensorflow(1)  # not by its name: torch's compiler has to be loaded before
    x, y = patches()
    keras = tf.keras
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(0)
        given = keras.layers.Input((PATCH, PATCH, 3), name="patch")
        seen = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(given)
        pooled = keras.layers.GlobalAveragePooling2D()(seen)
        net = keras.Model(given, keras.layers.Dense(2, "softmax")(pooled))
        net.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
        net.fit(x, y, 32, 4, verbose=0)
        assert (net.predict(x, verbose=0).argmax(1) == y).mean() > 0.8
    return tf, net


def _tensorflow(path: Path, save: Callable[[Any, Any], None]) -> Trained:
    tf, net = keras_net()
    rows = patches()[0][:ROWS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(tf, net)
        wanted = net.predict(rows, verbose=0)
    return Trained(path, {"patch": rows}, {"output_0": wanted})


def saved_model(folder: Path) -> Trained:
    path = folder / "photographs"
    return _tensorflow(path, lambda tf, net: net.export(path, verbose=False))


def keras(folder: Path) -> Trained:
    path = folder / "photographs.keras"
    return _tensorflow(path, lambda tf, net: net.save(path))


def tflite(folder: Path) -> Trained:
    path = folder / "photographs.tflite"

    def save(tf: Any, net: Any) -> None:
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())

    return _tensorflow(path, save)
