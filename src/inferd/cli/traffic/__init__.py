"""Load on a language model's server, and what its clients see of it: `inferd bench llm`.

The generator shares cores with what it measures, so it costs little: one thread, a parser in C,
events that are counted and not read. It refuses to know inferd; any server will do that streams
/v1/completions.
"""
