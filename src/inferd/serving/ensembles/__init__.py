"""Models made of models: arrays go from one to the next, within this process, without a copy."""
