from dataclasses import dataclass, field

from inferd.engine.kv_cache.kv_cache_manager import KVCacheManager

BLOCK = 4


@dataclass(eq=False)
class Holder:
    """A sequence as the manager sees it."""

    tokens: list[int]
    request_id: str = "r"
    cache_salt: str = ""
    has_siblings: bool = False
    skips_cache: bool = False
    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    cache_root: bytes = b""
    num_registered_blocks: int = 0

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.tokens)


def started(manager: KVCacheManager, holder: Holder) -> int:
    """Admit and compute all known tokens; how many of them were cached."""
    manager.prepare(holder)
    cached = manager.lookup(holder)
    assert manager.can_admit(holder, cached, spare=0)
    manager.admit(holder, cached)
    num_cached = holder.num_computed_tokens
    compute(manager, holder)
    return num_cached


def compute(manager: KVCacheManager, holder: Holder) -> None:
    left = len(holder.tokens) - holder.num_computed_tokens
    assert manager.allocate(holder, left)
    manager.computed(holder, left)


def test_blocks_come_as_tokens_do() -> None:
    manager = KVCacheManager(4, BLOCK)
    holder = Holder([1, 2, 3])
    started(manager, holder)
    assert len(holder.block_table) == 1
    holder.tokens += [4, 5]
    compute(manager, holder)
    assert len(holder.block_table) == 2
    assert manager.pool.num_free == 2
    manager.free(holder)
    assert manager.pool.num_free == 4
    assert holder.block_table == []
    assert holder.num_computed_tokens == 0


def test_too_few_blocks_change_nothing() -> None:
    manager = KVCacheManager(2, BLOCK)
    holder = Holder(list(range(9)))
    manager.prepare(holder)
    assert not manager.can_admit(holder, [], spare=0)
    assert not manager.allocate(holder, 9)
    assert holder.block_table == []
    assert manager.pool.num_free == 2
    assert manager.allocate(holder, 8)


def test_a_spare_block_is_left_on_request() -> None:
    manager = KVCacheManager(2, BLOCK)
    holder = Holder([1, 2, 3])
    assert manager.can_admit(holder, [], spare=1)
    assert not manager.can_admit(holder, [], spare=2)


def test_a_known_prefix_is_shared() -> None:
    manager = KVCacheManager(8, BLOCK)
    first, second = Holder([1, 2, 3, 4, 5, 6, 7, 8, 9]), Holder([1, 2, 3, 4, 5, 6, 7, 8, 0])
    assert started(manager, first) == 0
    assert started(manager, second) == 8
    assert first.block_table[:2] == second.block_table[:2]
    assert first.block_table[2] != second.block_table[2]
    assert (manager.hits, manager.queries) == (8, 18)


def test_the_last_token_is_always_computed() -> None:
    manager = KVCacheManager(8, BLOCK)
    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    assert started(manager, Holder(tokens)) == 0
    assert started(manager, Holder(list(tokens))) == 4


def test_the_prefix_outlives_its_sequence_and_tails_are_evicted_first() -> None:
    manager = KVCacheManager(3, BLOCK)
    first = Holder(list(range(12)))
    started(manager, first)
    manager.free(first)
    other = Holder([77])
    started(manager, other)
    manager.free(other)
    assert started(manager, Holder(list(range(12)))) == 8


def test_generated_tokens_are_cached_too() -> None:
    manager = KVCacheManager(8, BLOCK)
    first = Holder([1, 2, 3])
    started(manager, first)
    first.tokens += [4, 5]
    compute(manager, first)
    assert started(manager, Holder([1, 2, 3, 4, 5, 6])) == 4


def test_a_salt_and_a_fingerprint_keep_prefixes_apart() -> None:
    manager = KVCacheManager(8, BLOCK, fingerprint="m")
    tokens = [1, 2, 3, 4, 5]
    assert started(manager, Holder(tokens, cache_salt="a")) == 0
    assert started(manager, Holder(list(tokens), cache_salt="b")) == 0
    assert started(manager, Holder(list(tokens), cache_salt="a")) == 4
    roots = set()
    for fingerprint in ("m", "n"):
        holder = Holder(tokens)
        KVCacheManager(1, BLOCK, fingerprint=fingerprint).prepare(holder)
        roots.add(holder.cache_root)
    assert len(roots) == 2


def test_who_wants_all_logits_finds_nothing_and_is_found() -> None:
    manager = KVCacheManager(8, BLOCK)
    tokens = [1, 2, 3, 4, 5]
    started(manager, Holder(tokens))
    assert started(manager, Holder(list(tokens), skips_cache=True)) == 0
    assert manager.queries == 5
    other = KVCacheManager(8, BLOCK)
    started(other, Holder(tokens, skips_cache=True))
    assert started(other, Holder(list(tokens))) == 4


def test_without_prefix_caching_only_siblings_share() -> None:
    manager = KVCacheManager(8, BLOCK, enable_prefix_caching=False)
    tokens = [1, 2, 3, 4, 5]
    alone = Holder(list(tokens), request_id="a")
    first = Holder(list(tokens), request_id="b", has_siblings=True)
    second = Holder(list(tokens), request_id="b", has_siblings=True)
    assert started(manager, alone) == 0
    assert started(manager, first) == 0
    assert started(manager, second) == 4
    assert first.block_table[0] == second.block_table[0]
    for holder in (first, second):
        manager.free(holder)
    assert started(manager, Holder(list(tokens), request_id="b", has_siblings=True)) == 0


def test_cached_blocks_are_not_counted_as_room() -> None:
    manager = KVCacheManager(3, BLOCK)
    first = Holder(list(range(8)))
    started(manager, first)
    manager.free(first)
    holder = Holder(list(range(13)))
    manager.prepare(holder)
    cached = manager.lookup(holder)
    assert len(cached) == 2
    assert not manager.can_admit(holder, cached, spare=0)


def test_waste_is_what_is_held_and_not_written() -> None:
    manager = KVCacheManager(8, BLOCK)
    assert manager.waste == 0.0
    first, second = Holder([1, 2, 3, 4, 5]), Holder([1, 2, 3, 4, 6])
    started(manager, first)
    assert (manager.used_slots, manager.unused_slots) == (5, 3)
    started(manager, second)
    assert (manager.used_slots, manager.unused_slots) == (6, 6)
    assert manager.waste == 0.5
    assert manager.usage == 3 / 8
    manager.free(first)
    manager.free(second)
    assert (manager.used_slots, manager.unused_slots) == (0, 0)


def test_clear_forgets_every_prefix() -> None:
    manager = KVCacheManager(8, BLOCK)
    first = Holder([1, 2, 3, 4, 5])
    started(manager, first)
    manager.free(first)
    manager.clear()
    assert started(manager, Holder([1, 2, 3, 4, 5])) == 0
