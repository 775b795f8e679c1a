"""Triton repositories, served unmodified by Triton itself and by inferd, beside each other."""
