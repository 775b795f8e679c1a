"""The Open Inference Protocol with Triton's extensions, whatever carries it."""
