"""Calls with named arguments in plain JSON, the same on every carrier: what a Signature says, as
tensors and back. It knows no HTTP, no WebSocket and no queue."""
