"""Measures inferd against other Python inference servers on the same ONNX models."""
