"""How requests become batches: a bounded queue, a policy that decides, batches that merge and
split, and the DynamicBatcher that joins them to whatever runs a batch.

This room refuses to know models, protocols and files. Only batchers (`base.py`, `batcher.py` and
`sequences/batcher.py`) see an event loop.
"""
