"""Which blocks each sequence has: finds its cached prefix, gives it blocks for what comes, makes
computed blocks findable, takes all back. Pure.

It refuses to know when a sequence runs; that is the scheduler's.
"""

from typing import Protocol

from inferd.engine.kv_cache.block_pool import Block, BlockPool
from inferd.engine.kv_cache.prefix import extend_hashes, root_hash


class CachedSequence(Protocol):
    """What the manager sees of a sequence. The first group it reads, the second it owns."""

    request_id: str
    tokens: list[int]
    num_prompt_tokens: int
    cache_salt: str

    num_computed_tokens: int
    block_table: list[int]
    block_hashes: list[bytes]
    cache_root: bytes
    num_registered_blocks: int

    @property
    def has_siblings(self) -> bool:
        """Whether other sequences have the same prompt by birth (n > 1)."""

    @property
    def skips_cache(self) -> bool:
        """Whether every token must be computed, cached or not."""


class KVCacheManager:
    """The cache of one model. `fingerprint` names the model and its weights.

    Without `enable_prefix_caching` only the sequences of one request share blocks, and only while
    one of them holds them.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        enable_prefix_caching: bool = True,
        fingerprint: str = "",
    ) -> None:
        self.pool = BlockPool(num_blocks, enable_prefix_caching)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_slots = num_blocks * block_size
        self.unused_slots = 0
        """Slots of held blocks in which nothing has been written yet: the waste."""
        self.queries = 0
        """Tokens of admitted sequences for which a cached prefix was looked up."""
        self.hits = 0
        """Those of them that were found."""
        self._fingerprint = fingerprint

    @property
    def used_slots(self) -> int:
        """Slots of held blocks with a key and a value in them."""
        held = self.num_blocks - self.pool.num_free
        return held * self.block_size - self.unused_slots

    @property
    def usage(self) -> float:
        """The share of all blocks that somebody holds, from 0 to 1."""
        return 1.0 - self.pool.num_free / self.num_blocks

    @property
    def waste(self) -> float:
        """The share of slots that are held and unused, from 0 to 1."""
        held = (self.num_blocks - self.pool.num_free) * self.block_size
        return self.unused_slots / held if held else 0.0

    def num_blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold so many tokens."""
        return -(-num_tokens // self.block_size)

    def prepare(self, sequence: CachedSequence) -> None:
        """Decide once with whom a new sequence may share blocks."""
        if self.pool.enable_caching:
            sequence.cache_root = root_hash(self._fingerprint, "salt", sequence.cache_salt)
        elif sequence.has_siblings:
            sequence.cache_root = root_hash(self._fingerprint, "request", sequence.request_id)

    def lookup(self, sequence: CachedSequence) -> list[Block]:
        """The cached blocks that a sequence could start with. Nothing is held yet.

        Never all of its tokens: the last one has to be computed.
        """
        found: list[Block] = []
        if not sequence.cache_root:
            return found
        hashes = sequence.block_hashes
        extend_hashes(hashes, sequence.tokens, self.block_size, sequence.cache_root)
        lookup = self.pool.lookup
        for index in range(self.num_findable_blocks(sequence)):
            block = lookup(hashes[index])
            if block is None:
                break
            found.append(block)
        return found

    def num_findable_blocks(self, sequence: CachedSequence) -> int:
        """How many blocks a lookup could find at most."""
        if not sequence.cache_root or sequence.skips_cache:
            return 0
        return (len(sequence.tokens) - 1) // self.block_size

    def can_admit(self, sequence: CachedSequence, cached: list[Block], spare: int) -> bool:
        """Whether all known tokens fit beside the `cached` blocks, and `spare` blocks stay free."""
        needed = self.num_blocks_for(len(sequence.tokens)) - len(cached)
        needed += sum([block.ref_count == 0 for block in cached])
        return needed + spare <= self.pool.num_free

    def admit(self, sequence: CachedSequence, cached: list[Block]) -> None:
        """Start a sequence, which has no blocks, with what `lookup` found just now."""
        for block in cached:
            self.pool.share(block)
        sequence.block_table = [block.id for block in cached]
        sequence.num_computed_tokens = len(cached) * self.block_size
        sequence.num_registered_blocks = len(cached)
        if sequence.cache_root and not sequence.skips_cache:
            self.queries += len(sequence.tokens)
            self.hits += sequence.num_computed_tokens

    def allocate(self, sequence: CachedSequence, num_tokens: int) -> bool:
        """Give a sequence blocks for `num_tokens` more than it has computed; False, and nothing
        done, when too few are free."""
        table = sequence.block_table
        missing = sequence.num_computed_tokens + num_tokens - len(table) * self.block_size
        if missing <= 0:
            return True
        count = self.num_blocks_for(missing)
        if count > self.pool.num_free:
            return False
        table.extend([block.id for block in self.pool.allocate(count)])
        self.unused_slots += count * self.block_size
        return True

    def computed(self, sequence: CachedSequence, num_tokens: int) -> None:
        """Note that `num_tokens` more have their key and value in the sequence's blocks; blocks
        that are full now can be found by others."""
        sequence.num_computed_tokens += num_tokens
        self.unused_slots -= num_tokens
        full = sequence.num_computed_tokens // self.block_size
        if full > sequence.num_registered_blocks and sequence.cache_root:
            self._register(sequence, full)

    def free(self, sequence: CachedSequence) -> None:
        """Take all blocks of a sequence back; it has computed nothing any more."""
        table = sequence.block_table
        self.unused_slots -= len(table) * self.block_size - sequence.num_computed_tokens
        blocks = self.pool.blocks
        self.pool.free([blocks[id] for id in reversed(table)])
        sequence.block_table = []
        sequence.num_computed_tokens = 0

    def clear(self) -> None:
        """Forget every cached prefix, for instance before the weights change; nothing may run."""
        self.pool.clear()

    def _register(self, sequence: CachedSequence, full: int) -> None:
        if not self.pool.enable_caching:  # siblings share no more than the prompt
            full = min(full, sequence.num_prompt_tokens // self.block_size)
        extend_hashes(sequence.block_hashes, sequence.tokens, self.block_size, sequence.cache_root)
        blocks, table, hashes = self.pool.blocks, sequence.block_table, sequence.block_hashes
        for index in range(sequence.num_registered_blocks, full):
            self.pool.cache(blocks[table[index]], hashes[index])
        sequence.num_registered_blocks = full
