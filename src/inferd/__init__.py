"""inferd: one inference server for every model."""

__version__ = "0.1.0"

__all__ = ["__version__"]
