"""HTTP/1.1: our own connection on uvloop and httptools, a direct path for inference, and ordinary
ASGI for everything else."""
