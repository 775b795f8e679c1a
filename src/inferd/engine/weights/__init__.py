"""Weights: read from a model's folder, and made into what kernels take."""
