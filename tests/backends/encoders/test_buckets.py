from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from inferd.backends.encoders.buckets import buckets


def cost(groups: list[list[int]], lengths: list[int], run_tokens: int) -> int:
    return sum(run_tokens + len(g) * max(lengths[i] for i in g) for g in groups)


def best(lengths: list[int], run_tokens: int, most: int) -> int:
    """The least cost of all ways to cut the sorted lengths."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    found = []
    for count in range(len(order)):
        for cuts in combinations(range(1, len(order)), count):
            edges = [0, *cuts, len(order)]
            groups = [order[a:b] for a, b in pairwise(edges)]
            if all(len(g) == 1 or len(g) * lengths[g[0]] <= most for g in groups):
                found.append(cost(groups, lengths, run_tokens))
    return min(found)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(0, 60), st.integers(1, 200)
)
def test_nothing_is_cheaper_and_nothing_is_lost(
    lengths: list[int], run_tokens: int, most: int
) -> None:
    groups = buckets(lengths, run_tokens, most)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert cost(groups, lengths, run_tokens) == best(lengths, run_tokens, most)
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= most


def test_texts_alike_run_together_and_others_do_not() -> None:
    assert buckets([3, 200, 4, 210], 64, 8192) == [[3, 1], [2, 0]]
    assert buckets([3, 9, 4], 64, 8192) == [[1, 2, 0]]
    assert buckets([], 64, 8192) == []
