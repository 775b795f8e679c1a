"""What can be seen of a running server: its log, its numbers, and the machine it runs on.

Nothing here knows a protocol, a model or a request; each module takes plain values and shows them.
"""
