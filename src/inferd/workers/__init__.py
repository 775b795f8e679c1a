"""Processes that run models, so that what a model does to its process is done to no other.

`process.py` is the server's end of one worker, `child.py` the worker's own. It refuses to know
queues and batches (`serving/worker_pool.py`) and what a model class is (`sdk/`).
"""
