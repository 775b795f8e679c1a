"""One network with the same weights in the files of every framework that runs networks."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.frameworks.table import HIDDEN, LAYERS, OUTPUTS, WIDTH

SEED = 20240501

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


def layers() -> list[Layer]:
    """Weight [in, out] and bias of each layer; behind all but the last is a ReLU."""
    random = np.random.default_rng(SEED)
    widths = [WIDTH, *[HIDDEN] * LAYERS, OUTPUTS]
    return [
        (
            random.normal(0.0, (2 / rows) ** 0.5, (rows, columns)).astype(np.float32),
            random.normal(0.0, 0.1, columns).astype(np.float32),
        )
        for rows, columns in itertools.pairwise(widths)
    ]


def write_onnx(path: Path) -> None:
    """Gemm and Relu."""
    from benchmarks.models import Graph, floats

    graph, x, found = Graph(), "x", layers()
    for weight, bias in found[:-1]:
        gemm = graph.add("Gemm", x, graph.constant(weight), graph.constant(bias))
        x = graph.add("Relu", gemm)
    weight, bias = found[-1]
    graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), output="y")
    graph.save(path, floats("x", WIDTH), floats("y", OUTPUTS))


def write_openvino(path: Path) -> None:
    """OpenVINO's own form of the ONNX file, in float32."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "deep.onnx"
        write_onnx(source)
        openvino.save_model(openvino.Core().read_model(source), path, compress_to_fp16=False)


def torch_network() -> Any:
    """The network as a module."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts: list[torch.nn.Module] = []
            for weight, bias in layers():
                linear = torch.nn.Linear(*weight.shape)
                linear.weight = torch.nn.Parameter(torch.from_numpy(weight.T.copy()))
                linear.bias = torch.nn.Parameter(torch.from_numpy(bias))
                parts += [linear, torch.nn.ReLU()]
            self.parts = torch.nn.Sequential(*parts[:-1])

        def forward(self, x: Any) -> Any:
            return self.parts(x)

    return Network().eval()


def write_torchscript(path: Path) -> None:
    """Traced."""
    import torch

    with torch.inference_mode():
        torch.jit.trace(torch_network(), torch.zeros(2, WIDTH)).save(str(path))


def write_pt2(path: Path) -> None:
    """Exported for any number of rows."""
    import torch

    rows = torch.export.Dim("rows", min=1, max=4096)
    program = torch.export.export(
        torch_network(), (torch.zeros(2, WIDTH),), dynamic_shapes={"x": {0: rows}}
    )
    torch.export.save(program, str(path))


def tensorflow_function() -> Any:
    """A module of TensorFlow with its signature."""
    import tensorflow as tf

    module = tf.Module()
    module.layers = [(tf.Variable(weight), tf.Variable(bias)) for weight, bias in layers()]

    def call(x: Any) -> dict[str, Any]:
        for weight, bias in module.layers[:-1]:
            x = tf.nn.relu(x @ weight + bias)
        weight, bias = module.layers[-1]
        return {"y": x @ weight + bias}

    spec = tf.TensorSpec([None, WIDTH], tf.float32, name="x")
    module.call = tf.function(call, input_signature=[spec])
    return module


def write_savedmodel(path: Path) -> None:
    """A folder."""
    import tensorflow as tf

    module = tensorflow_function()
    tf.saved_model.save(module, str(path), signatures=module.call)


def write_tflite(path: Path) -> None:
    """Converted in float32, with its signature."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "deep"
        write_savedmodel(source)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(source)).convert())


WRITERS = {
    "onnxruntime": write_onnx,
    "openvino": write_openvino,
    "torchscript": write_torchscript,
    "pt2": write_pt2,
    "savedmodel": write_savedmodel,
    "tflite": write_tflite,
}
