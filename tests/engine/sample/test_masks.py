import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sample.reference import adjusted
from inferd.engine.sample.masks import Masks, needs_masks
from inferd.types.generation import SamplingParams

ids = st.integers(0, 7)


@given(
    st.lists(ids, max_size=6),
    st.one_of(st.none(), st.lists(ids, min_size=1, max_size=8)),
    st.lists(st.lists(ids, min_size=1, max_size=3), max_size=4),
    st.integers(0, 4),
    st.lists(ids, max_size=2),
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_masks_are_those_of_the_reference(
    output: list[int],
    allowed: list[int] | None,
    bad_words: list[list[int]],
    min_tokens: int,
    stops: list[int],
) -> None:
    params = SamplingParams(
        allowed_token_ids=None if allowed is None else tuple(allowed),
        bad_words_token_ids=tuple(map(tuple, bad_words)),
        min_tokens=min_tokens,
        stop_token_ids=tuple(stops),
    )
    masks = Masks(params, [7], 8)
    for token in output:
        masks.append(token)
    logits = np.arange(8, dtype=np.float32)
    expected = adjusted(logits, params, (), output, [7])
    active = masks.active
    masks.apply(logits)
    assert logits.tolist() == expected.tolist()
    assert active or logits.tolist() == list(range(8))


def test_end_tokens_beyond_the_logits_are_no_matter() -> None:
    masks = Masks(SamplingParams(min_tokens=1), [3, 900], 4)
    logits = np.zeros(4, np.float32)
    masks.apply(logits)
    assert logits.tolist() == [0, 0, 0, -np.inf]


def test_min_tokens_are_over_after_as_many() -> None:
    masks = Masks(SamplingParams(min_tokens=2), [3], 4)
    seen = []
    for token in (1, 1, 1):
        seen.append(masks.active)
        masks.append(token)
    assert seen == [True, True, False]


@pytest.mark.parametrize(
    ("params", "needed"),
    [
        (SamplingParams(), False),
        (SamplingParams(stop_token_ids=(1,)), False),
        (SamplingParams(min_tokens=1), True),
        (SamplingParams(allowed_token_ids=(1,)), True),
        (SamplingParams(bad_words_token_ids=((1,),)), True),
    ],
)
def test_only_some_parameters_need_masks(params: SamplingParams, needed: bool) -> None:
    assert needs_masks(params) is needed
