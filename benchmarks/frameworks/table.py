"""Which frameworks are measured by themselves; it imports none of them."""

from dataclasses import dataclass

WIDTH, HIDDEN, LAYERS, OUTPUTS = 256, 2048, 5, 16
"""The network: 17 million weights, some 15 ms for 64 rows on two cores."""

FEATURES, TREES, DEPTH = 32, 500, 6
"""The trees."""


@dataclass(frozen=True)
class Framework:
    """One; `package` has to be there, `file` is what its model is called. One that `rounds` may
    compute in less than float32. `datatype` is the input's. inferd reads some with `trust` only."""

    name: str
    package: str
    file: str
    trees: bool = False
    rounds: bool = False
    datatype: str = "FP32"
    trust: bool = False

    @property
    def input_name(self) -> str:
        """What the model's input is called when inferd serves it."""
        return "input" if self.trees else "x"


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("onnxruntime", "onnxruntime", "deep.onnx"),
        Framework("openvino", "openvino", "deep.xml", rounds=True),
        Framework("torchscript", "torch", "deep.pt"),
        Framework("pt2", "torch", "deep.pt2", trust=True),
        Framework("savedmodel", "tensorflow", "deep"),
        Framework("tflite", "tensorflow", "deep.tflite"),
        Framework("xgboost", "xgboost", "trees.json", trees=True),
        Framework("lightgbm", "lightgbm", "trees.txt", trees=True, datatype="FP64"),
        Framework("catboost", "catboost", "trees.cbm", trees=True, datatype="FP64"),
    )
}
