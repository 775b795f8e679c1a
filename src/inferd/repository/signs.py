"""What a file holds, by how it begins and, of an archive, by what lies in it; whatever its name
says. It reads a few kilobytes, and refuses to load a model.
"""

import zipfile
from pathlib import Path

HEAD_BYTES = 4096

CONTENTS = {
    "xgboost": "trees of XGBoost",
    "lightgbm": "trees of LightGBM",
    "catboost": "trees of CatBoost",
    "tflite": "a TensorFlow Lite model",
    "openvino": "OpenVINO's description of a model",
    "torchscript": "TorchScript",
    "torch-export": "a program exported by PyTorch",
    "torch-weights": "weights that torch.save wrote, without the code that uses them (export the "
    "model with torch.export or torch.jit, or write a Python model)",
    "keras": "a Keras model",
    "skops": "a model that skops saved",
    "zip": "an archive that is damaged, or holds no model that inferd knows",
    "pickle": "a Python pickle",
    "packed": "a compressed file, as joblib writes pickles",
    "hdf5": "HDF5, as Keras wrote before version 3 (save it as .keras)",
    "json": "JSON, though not a model that inferd knows",
    "empty": "nothing at all",
    "missing": "no file that can be read",
    "": "nothing that inferd knows",
}
"""What can be told of a file, and the words for it. A protocol buffer, as ONNX is, begins with
nothing of its own, and so is ''."""

_BEGINNINGS = (
    (b"CBM1", "catboost"), (b"tree\n", "lightgbm"), (b"tree\r\n", "lightgbm"),
    (b"\x80\x02", "pickle"), (b"\x80\x03", "pickle"), (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"), (b"\x1f\x8b", "packed"), (b"BZh", "packed"),
    (b"\xfd7zXZ", "packed"), (b"]\x00\x00\x80\x00", "packed"), (b"\x04\x22\x4d\x18", "packed"),
    (b"x\x01", "packed"), (b"x\x5e", "packed"), (b"x\x9c", "packed"), (b"x\xda", "packed"),
    (b"\x89HDF\r\n", "hdf5"),
)  # fmt: skip


def content(path: Path) -> str:
    """What a file holds, a key of CONTENTS."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(b"PK"):
            return _in_archive(path)
    except OSError:
        return "missing"
    return _beginning(head)


def _beginning(head: bytes) -> str:
    if not head:
        return "empty"
    if head[4:8] == b"TFL3":
        return "tflite"
    for start, found in _BEGINNINGS:
        if head.startswith(start):
            return found
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<") and b"<net" in text:
        return "openvino"
    if text.startswith(b"{"):
        return "xgboost" if b"learner" in text else "json" if b"\x00" not in text else ""
    return ""


def _in_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "zip"
    inner = {name.partition("/")[2] for name in names}
    if {"metadata.json", "config.json"} <= {*names}:
        return "keras"
    if "schema.json" in names:
        return "skops"
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "torch-export"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    return "torch-weights" if "data.pkl" in inner else "zip"
