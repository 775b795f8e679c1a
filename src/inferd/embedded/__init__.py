"""A server within a Python process that asks it: no sockets, no copies of tensors.

It refuses to know protocols' wires, and how serving works: it asks the planes, as protocols do.
"""
