"""The ONNX models that every server answers with: random weights from a fixed seed."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
SEED = 20240501

HIDDEN = 384
HEADS = 12
FEED_FORWARD = 1536
VOCABULARY = 1000


class Graph:
    """Collects nodes and weights while a model is written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(SEED)

    def constant(self, values: NDArray[np.generic]) -> str:
        """Adds a fixed array and gives its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Adds random normal weights, scaled by the fan-in unless told."""
        deviation = scale if scale is not None else shape[0] ** -0.5
        values = self._random.normal(0.0, deviation, shape).astype(np.float32)
        return self.constant(values)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Adds a node with one output and gives that output's name."""
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, rows: int, columns: int) -> str:
        """Adds `x @ weight + bias` over the last dimension."""
        product = self.add("MatMul", x, self.weight(rows, columns))
        return self.add("Add", product, self.weight(columns, scale=0.02))

    def save(self, path: Path, source: onnx.ValueInfoProto, target: onnx.ValueInfoProto) -> None:
        """Checks the model and writes it to a file."""
        graph = helper.make_graph(self.nodes, path.stem, [source], [target], self.weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def floats(name: str, width: int) -> onnx.ValueInfoProto:
    """Describes a float32 tensor of [batch, width]."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def token_ids(length: int) -> onnx.ValueInfoProto:
    """Describes an int64 tensor `ids` of [batch, length]."""
    return helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", length])


def write_mlp(path: Path) -> None:
    """16 -> 64 (ReLU) -> 3 (softmax): so small that all its time is the server's."""
    graph = Graph()
    hidden = graph.add("Gemm", "x", graph.weight(16, 64), graph.weight(64, scale=0.1))
    hidden = graph.add("Relu", hidden)
    logits = graph.add("Gemm", hidden, graph.weight(64, 3), graph.weight(3, scale=0.1))
    graph.add("Softmax", logits, output="y", axis=-1)
    graph.save(path, floats("x", 16), floats("y", 3))


def write_wide(path: Path) -> None:
    """4096 -> 3: a large request for little work, where the encoding is the cost."""
    graph = Graph()
    graph.add("Gemm", "x", graph.weight(4096, 3), graph.weight(3, scale=0.1), output="y")
    graph.save(path, floats("x", 4096), floats("y", 3))


def write_encoder(path: Path) -> None:
    """A sentence encoder of six layers over 64 tokens, mean-pooled to 384 numbers."""
    graph = Graph()
    pooled = transformer(graph, layers=6, length=64)
    graph.add("Identity", pooled, output="embedding")
    graph.save(path, token_ids(64), floats("embedding", HIDDEN))


def transformer(graph: Graph, layers: int, length: int) -> str:
    """Adds embeddings, post-norm layers and the mean over tokens; gives [batch, hidden]."""
    tokens = graph.add("Gather", graph.weight(VOCABULARY, HIDDEN, scale=1.0), "ids", axis=0)
    positions = graph.weight(length, HIDDEN, scale=0.5)
    x = normalise(graph, graph.add("Add", tokens, positions))
    for _ in range(layers):
        x = normalise(graph, graph.add("Add", x, attention(graph, x, length)))
        x = normalise(graph, graph.add("Add", x, feed_forward(graph, x)))
    return graph.add("ReduceMean", x, axes=[1], keepdims=0)


def normalise(graph: Graph, x: str) -> str:
    """Adds a layer normalisation over the hidden dimension."""
    scale = graph.constant(np.ones(HIDDEN, np.float32))
    shift = graph.constant(np.zeros(HIDDEN, np.float32))
    return graph.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)


def attention(graph: Graph, x: str, length: int) -> str:
    """Adds full self-attention of 12 heads with its output projection."""
    width = HIDDEN // HEADS
    split = graph.constant(np.array([0, length, HEADS, width], np.int64))
    query, key, value = (
        graph.add("Reshape", graph.linear(x, HIDDEN, HIDDEN), split) for _ in range(3)
    )
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    scores = graph.add("MatMul", query, key)
    scores = graph.add("Div", scores, graph.constant(np.array(width**0.5, np.float32)))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = graph.constant(np.array([0, length, HIDDEN], np.int64))
    return graph.linear(graph.add("Reshape", mixed, joined), HIDDEN, HIDDEN)


def feed_forward(graph: Graph, x: str) -> str:
    """Adds the two projections with the exact GELU, written with Erf, between them."""
    x = graph.linear(x, HIDDEN, FEED_FORWARD)
    ratio = graph.add("Div", x, graph.constant(np.array(2.0**0.5, np.float32)))
    gate = graph.add("Add", graph.add("Erf", ratio), graph.constant(np.array(1.0, np.float32)))
    product = graph.add("Mul", x, gate)
    product = graph.add("Mul", product, graph.constant(np.array(0.5, np.float32)))
    return graph.linear(product, FEED_FORWARD, HIDDEN)


WRITERS = {
    "mlp": write_mlp,
    "encoder": write_encoder,
    "wide": write_wide,
}


def ensure_models(folder: Path) -> dict[str, Path]:
    """Writes every model anew (they are small) and gives their paths by name."""
    paths = {name: folder / f"{name}.onnx" for name in WRITERS}
    for name, path in paths.items():
        WRITERS[name](path)
    return paths
