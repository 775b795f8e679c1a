"""One file a framework, behind one contract (`base.py`), found by name (`registry.py`)."""
