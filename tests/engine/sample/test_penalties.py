import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sample.reference import adjusted
from inferd.engine.sample.penalties import Penalties
from inferd.types.generation import SamplingParams

tokens = st.lists(st.integers(0, 19), max_size=150)


@given(tokens, tokens, st.floats(0.1, 3), st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 9))
@settings(derandomize=True, deadline=None)
def test_penalties_are_those_of_the_reference(
    prompt: list[int],
    output: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    seed: int,
) -> None:
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency
    )
    logits = np.random.default_rng(seed).normal(size=20).astype(np.float32)
    expected = adjusted(logits, params, prompt, output)
    penalties = Penalties(repetition, presence, frequency, prompt)
    for token in output:
        penalties.append(token)
    penalties.apply(logits)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_memory_goes_with_distinct_tokens() -> None:
    penalties = Penalties(1.1, 0, 0, range(100))
    for token in range(50, 1_000):
        penalties.append(token)
    logits = np.ones(1_000, np.float32)
    penalties.apply(logits)
    np.testing.assert_allclose(logits, np.full(1_000, 1 / 1.1), rtol=1e-6)


def test_forbidden_tokens_stay_forbidden() -> None:
    penalties = Penalties(2.0, -2, -2, [0, 1])
    penalties.append(0)
    logits = np.array([-np.inf, 1, 1], np.float32)
    penalties.apply(logits)
    assert logits.tolist() == [-np.inf, 0.5, 1]
