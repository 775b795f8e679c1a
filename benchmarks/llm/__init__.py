"""Benchmarks of language models: inferd's engine beside other engines on one made-up model."""
