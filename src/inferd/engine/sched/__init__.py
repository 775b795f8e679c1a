"""What runs in the next step: sequences, the queue in front of them, a fit of how long a step takes
and the scheduler that fills a step's time.

This room refuses to know tensors, devices and clocks: time comes in as an argument. Pure Python.
"""
