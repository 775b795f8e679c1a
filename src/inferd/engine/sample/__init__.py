"""How the next token is chosen: the rules for parameters, penalties and masks, candidates and the
draw, log probabilities.

All of it is numpy over rows of logits. This room refuses to know text, models, the KV cache and
when a sequence runs.
"""
