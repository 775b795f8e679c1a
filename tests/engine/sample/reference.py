"""The sampler's rules written down as slowly and plainly as possible, in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferd.types.generation import SamplingParams

Row = NDArray[np.floating[Any]]


def adjusted(
    logits: Row,
    params: SamplingParams,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    eos: Sequence[int] = (),
) -> Row:
    """Bias, penalties, masks."""
    row = logits.astype(np.float64)
    for token, bias in (params.logit_bias or {}).items():
        row[token] += max(-100.0, min(100.0, bias))
    for token in {*prompt, *output}:
        penalty = params.repetition_penalty
        row[token] = row[token] / penalty if row[token] > 0 else row[token] * penalty
    for token in set(output):
        row[token] -= params.frequency_penalty * list(output).count(token)
        row[token] -= params.presence_penalty
    for token in range(len(row)):
        if params.allowed_token_ids is not None and token not in params.allowed_token_ids:
            row[token] = -np.inf
        if len(output) < params.min_tokens and token in (*eos, *params.stop_token_ids):
            row[token] = -np.inf
    for *start, last in params.bad_words_token_ids:
        if len(output) >= len(start) and list(output)[len(output) - len(start) :] == start:
            row[last] = -np.inf
    return row


def probabilities(row: Row, params: SamplingParams) -> Row:
    """What remains after temperature, min-p, top-k and top-p, and how likely it is."""
    if params.temperature == 0:
        return np.eye(len(row))[int(np.argmax(row))]
    shares = np.exp((row - row.max()) / params.temperature)
    order = sorted(range(len(row)), key=lambda token: (-shares[token], token))
    order = [token for token in order if shares[token] >= params.min_p * shares.max()]
    if params.top_k:
        order = order[: params.top_k]
    total = sum(shares[token] for token in order)
    kept: list[int] = []
    mass = 0.0
    for token in order:
        if mass >= params.top_p * total:
            break
        kept.append(token)
        mass += shares[token]
    result = np.zeros(len(row))
    result[kept] = shares[kept] / shares[kept].sum()
    return result
