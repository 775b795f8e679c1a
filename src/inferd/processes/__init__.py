"""What it takes to have part of a server in another process: starting and ending one, messages as
bytes, its log, what freed memory it keeps. It refuses to know what the processes are for.
"""
