"""Triton's Python backend: `model.py` files with a class TritonPythonModel run here as they are.

`triton_python_backend_utils` exists in workers only (`module.py`); its nouns have a file each.
"""
