"""Requests that follow on one another: which sequence has which slot of which instance, what of
them runs next, and what the model is told of where in its sequence a request stands.

`table.py`, `strategy.py` and `filling.py` are pure; `runs.py` joins them to runners and the event
loop, and `batcher.py` to requests.
"""
