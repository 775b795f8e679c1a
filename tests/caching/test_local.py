from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inferd.caching.answer import KeptAnswer, kept
from inferd.caching.local import LocalCache
from inferd.types.datatype import UINT8
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Tensor

EMPTY = kept(InferenceResponse("m", "1", [Tensor("y", UINT8, np.zeros(0, np.uint8))])).size


def answer(size: int) -> KeptAnswer:
    """One of so many bytes in all."""
    array = np.zeros(size - EMPTY, np.uint8)
    return kept(InferenceResponse("m", "1", [Tensor("y", UINT8, array)]))


def test_what_was_not_asked_for_longest_makes_room() -> None:
    cache = LocalCache(3000)
    for name in (b"a", b"b", b"c"):
        cache.put(name, answer(1000))
    assert cache.get(b"a") is not None
    cache.put(b"d", answer(1000))
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True, False, True, True
    ]  # fmt: skip
    assert (cache.usage.used_bytes, cache.usage.entries, cache.usage.evictions) == (3000, 3, 1)


def test_an_answer_larger_than_the_cache_is_not_kept_and_costs_nobody_his_place() -> None:
    cache = LocalCache(3000)
    cache.put(b"a", answer(1000))
    cache.put(b"b", answer(3001))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    cache.put(b"c", answer(3000))
    assert cache.get(b"c") is not None
    assert cache.usage.entries == 1


def test_an_answer_that_is_kept_again_counts_once() -> None:
    cache = LocalCache(3000)
    cache.put(b"a", answer(1000))
    cache.put(b"a", answer(2000))
    assert (cache.usage.used_bytes, cache.usage.entries, cache.usage.evictions) == (2000, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=40))
def test_it_is_a_least_recently_used_cache_by_bytes(asks: list[tuple[int, int, bool]]) -> None:
    limit = 10 * 1000
    cache, model = LocalCache(limit), OrderedDict[bytes, int]()
    for name, thousands, puts in asks:
        key, size = bytes([name]), max(1, thousands) * 1000
        if puts:
            cache.put(key, answer(size))
            if size <= limit:
                model.pop(key, None)
                while sum(model.values()) + size > limit:
                    model.popitem(last=False)
                model[key] = size
        else:
            assert (cache.get(key) is not None) is (key in model)
            if key in model:
                model.move_to_end(key)
        assert cache.usage.used_bytes == sum(model.values()) <= limit
        assert cache.usage.entries == len(model)
