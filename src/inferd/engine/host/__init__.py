"""Where an engine runs: in a thread of this process or in a process of its own, spoken to alike.

It refuses to know text and streams (`engine/async_llm.py`).
"""
