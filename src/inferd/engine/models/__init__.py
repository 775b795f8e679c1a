"""What models are, as data: a spec (`spec.py`), one file a family that reads it from a
`config.json`, and the table of families (`registry.py`).

This room refuses to know tensors, files of weights and how anything is computed.
"""
