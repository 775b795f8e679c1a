"""When a sampled token ends its sequence. Stop strings are found where the text is."""

from inferd.engine.sched.sequence import Sequence
from inferd.types.generation import FinishReason

Ending = tuple[FinishReason, int | None]
"""Why, and which stop token; None for an end token and for a length."""


def find_ending(sequence: Sequence, eos_ids: frozenset[int], max_tokens: int) -> Ending | None:
    """Whether the sequence ends with its last token; `max_tokens` is of prompt and output."""
    params = sequence.params
    num_output = len(sequence.tokens) - sequence.num_prompt_tokens
    if num_output and num_output >= params.min_tokens:
        token = sequence.tokens[-1]
        if token in eos_ids and not params.ignore_eos:
            return "stop", None
        if token in params.stop_token_ids:
            return "stop", token
    if len(sequence.tokens) >= max_tokens:
        return "length", None
    if params.max_tokens is not None and num_output >= params.max_tokens:
        return "length", None
    return None
