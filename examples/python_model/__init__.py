"""A model written in Python, as the README has it: `inferd serve examples/python_model/app.py`."""
