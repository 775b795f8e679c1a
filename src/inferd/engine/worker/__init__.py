"""What runs a model: the contract (`base.py`) and the runners, each for its kind of machine."""
