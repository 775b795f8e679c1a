"""Models of every framework, and each framework by itself, which is the most that a server of it
could reach. It runs in a process of its own, for some frameworks do not share one, and knows no
server.
"""
