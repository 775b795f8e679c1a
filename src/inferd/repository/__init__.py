"""What models exist on disk, and which versions of them should be served.

`layout.py` looks, `version_policy.py` decides (pure). This room refuses to load a model.
"""
