from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.config.model import All, Latest, ModelVersionPolicy, Specific
from inferd.repository.version_policy import choose_versions

versions = st.sets(st.integers(1, 30), max_size=10)


def test_the_latest_one_is_chosen_where_nothing_is_said() -> None:
    assert choose_versions(ModelVersionPolicy(), [1, 10, 9]) == (10,)
    assert choose_versions(ModelVersionPolicy(latest=Latest()), [1, 10, 9]) == (10,)


@settings(derandomize=True, deadline=None)
@given(versions, st.integers(1, 12))
def test_latest_are_the_highest_that_exist(available: set[int], count: int) -> None:
    chosen = choose_versions(ModelVersionPolicy(latest=Latest(num_versions=count)), available)
    assert list(chosen) == sorted(available, reverse=True)[:count][::-1]


@settings(derandomize=True, deadline=None)
@given(versions)
def test_all_are_all_lowest_first(available: set[int]) -> None:
    chosen = choose_versions(ModelVersionPolicy(all=All()), available)
    assert list(chosen) == sorted(available)


@settings(derandomize=True, deadline=None)
@given(versions, st.lists(st.integers(1, 30), min_size=1))
def test_specific_are_those_asked_for_that_exist(available: set[int], asked: list[int]) -> None:
    policy = ModelVersionPolicy(specific=Specific(versions=tuple(asked)))
    assert list(choose_versions(policy, available)) == sorted(available & set(asked))
