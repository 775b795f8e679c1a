from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.engine.kv_cache.prefix import DIGEST_SIZE, extend_hashes, root_hash

ROOT = root_hash("model")


def hashes(tokens: list[int], root: bytes = ROOT, block_size: int = 4) -> list[bytes]:
    result: list[bytes] = []
    extend_hashes(result, tokens, block_size, root)
    return result


def test_only_full_blocks_have_a_hash() -> None:
    assert len(hashes([1, 2, 3])) == 0
    assert len(hashes([1, 2, 3, 4])) == 1
    assert len(hashes(list(range(9)))) == 2
    assert all(len(digest) == DIGEST_SIZE for digest in hashes(list(range(9))))


def test_a_hash_names_the_block_and_all_before_it() -> None:
    first = hashes([1, 2, 3, 4, 5, 6, 7, 8])
    other_head = hashes([9, 2, 3, 4, 5, 6, 7, 8])
    other_tail = hashes([1, 2, 3, 4, 5, 6, 7, 9])
    assert first[0] == other_tail[0]
    assert first[1] != other_tail[1]
    assert set(first).isdisjoint(other_head)


def test_a_root_names_all_its_parts_and_where_they_end() -> None:
    roots = {root_hash(*parts) for parts in [("a",), ("a", ""), ("", "a"), ("a", "b"), ("ab",)]}
    assert len(roots) == 5
    assert hashes([1, 2, 3, 4], root_hash("m", "x")) != hashes([1, 2, 3, 4], root_hash("m", "y"))


def test_large_token_ids_are_not_cut() -> None:
    assert hashes([0, 0, 0, 1]) != hashes([0, 0, 0, 1 + (1 << 16)])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 2**31 - 1), max_size=40), st.data())
def test_growing_by_pieces_gives_the_hashes_of_the_whole(
    tokens: list[int], data: st.DataObject
) -> None:
    grown: list[bytes] = []
    end = 0
    while end < len(tokens):
        end += data.draw(st.integers(1, 9))
        extend_hashes(grown, tokens[:end], 4, ROOT)
    assert grown == hashes(tokens)
