"""The express lane: the plainest requests of one turn are decoded and answered together.

`rider.py` is what it asks of a protocol; `lane.py` is the lane; `sequence_riders.py` is the part of
it for requests of sequences.
"""
