"""Where keys and values lie: a pool of blocks with reference counts, hashes that find the blocks
of a known prefix again, and the manager that keeps each sequence's block table.

This room refuses to know tensors, devices, and why a sequence runs. Pure Python.
"""
