"""Checks of the V2 protocol and Triton's extensions, for any server, by its address alone.

It refuses to know inferd: everything it does, any client may do.
"""
