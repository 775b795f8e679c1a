import pytest

from inferd.engine.kv_cache.block_pool import Block, BlockPool


def test_hands_out_each_block_once_and_takes_it_back() -> None:
    pool = BlockPool(4, enable_caching=True)
    blocks = pool.allocate(3)
    assert sorted({block.id for block in blocks}) == [0, 1, 2]
    assert pool.num_free == 1
    pool.free(blocks)
    assert pool.num_free == 4


def test_a_block_freed_twice_is_an_error() -> None:
    pool = BlockPool(2, enable_caching=True)
    blocks = pool.allocate(1)
    pool.free(blocks)
    with pytest.raises(RuntimeError, match="freed twice"):
        pool.free(blocks)


def test_a_shared_block_is_free_when_the_last_lets_go() -> None:
    pool = BlockPool(2, enable_caching=True)
    (block,) = pool.allocate(1)
    pool.share(block)
    pool.free([block])
    assert pool.num_free == 1
    pool.free([block])
    assert pool.num_free == 2


def cached(pool: BlockPool, *digests: bytes) -> list[Block]:
    blocks = pool.allocate(len(digests))
    for block, digest in zip(blocks, digests, strict=True):
        pool.cache(block, digest)
    return blocks


def test_a_free_block_is_found_until_it_is_handed_out() -> None:
    pool = BlockPool(2, enable_caching=True)
    blocks = cached(pool, b"a", b"b")
    pool.free(blocks)
    assert pool.num_free == 2
    assert pool.num_cached == 2
    found = pool.lookup(b"a")
    assert found is blocks[0]
    pool.share(found)
    assert pool.num_free == 1
    assert pool.allocate(1) == [blocks[1]]
    assert pool.lookup(b"b") is None
    assert pool.num_cached == 1


def test_blocks_are_evicted_in_the_order_in_which_they_were_freed() -> None:
    pool = BlockPool(3, enable_caching=True)
    head, middle, tail = cached(pool, b"head", b"middle", b"tail")
    pool.free([tail, middle, head])
    assert pool.allocate(1) == [tail]
    assert pool.allocate(1) == [middle]
    assert pool.lookup(b"head") is head


def test_blocks_that_keep_nothing_go_first() -> None:
    pool = BlockPool(3, enable_caching=True)
    kept = cached(pool, b"a", b"b")
    plain = pool.allocate(1)
    pool.free(kept)
    pool.free(plain)
    assert pool.allocate(1) == plain


def test_use_makes_a_block_the_last_to_be_evicted() -> None:
    pool = BlockPool(2, enable_caching=True)
    first, second = cached(pool, b"a", b"b")
    pool.free([first, second])
    pool.share(first)
    pool.free([first])
    assert pool.allocate(1) == [second]


def test_the_first_block_with_a_hash_keeps_it() -> None:
    pool = BlockPool(2, enable_caching=True)
    first, second = pool.allocate(2)
    pool.cache(first, b"a")
    pool.cache(second, b"a")
    assert pool.lookup(b"a") is first
    pool.free([second])
    assert pool.lookup(b"a") is first


def test_without_caching_a_block_is_found_while_it_is_held() -> None:
    pool = BlockPool(1, enable_caching=False)
    blocks = cached(pool, b"a")
    assert pool.lookup(b"a") is blocks[0]
    pool.free(blocks)
    assert pool.lookup(b"a") is None
    assert pool.num_cached == 0


def test_clear_forgets_what_blocks_hold_and_not_who_holds_them() -> None:
    pool = BlockPool(2, enable_caching=True)
    blocks = cached(pool, b"a", b"b")
    pool.free(blocks[:1])
    pool.clear()
    assert pool.num_cached == 0
    assert pool.lookup(b"b") is None
    assert pool.num_free == 1
