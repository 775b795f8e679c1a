"""One file a task; what they have in common is in `base.py`."""
