"""The blocks of a KV cache: who holds how many, which are free, and which of the free ones still
keep what they held. Pure.

It refuses to know sequences and tokens, and what a hash is made of.
"""

from collections.abc import Iterable


class Block:
    """One block. `hash` names its contents and is empty while they cannot be found; `prev` and
    `next` link it into the free list while `ref_count` is 0."""

    __slots__ = ("hash", "id", "next", "prev", "ref_count")

    def __init__(self, id: int) -> None:
        self.id = id
        self.ref_count = 0
        self.hash = b""
        self.prev: Block | None = None
        self.next: Block | None = None


class FreeList:
    """Free blocks in the order in which they are handed out; a block leaves it in constant time."""

    __slots__ = ("_end", "size")

    def __init__(self) -> None:
        self.size = 0
        self._end = Block(-1)  # a ring: behind its end comes its front
        self._end.prev = self._end.next = self._end

    def append(self, block: Block) -> None:
        """Add a block as the last to be handed out."""
        self._link(block, before=self._end)

    def append_front(self, block: Block) -> None:
        """Add a block as the first to be handed out."""
        assert self._end.next is not None
        self._link(block, before=self._end.next)

    def remove(self, block: Block) -> None:
        """Take a block out, wherever it stands."""
        before, after = block.prev, block.next
        assert before is not None
        assert after is not None
        before.next, after.prev = after, before
        block.prev = block.next = None
        self.size -= 1

    def pop(self) -> Block:
        """Take the first block out; the list must not be empty."""
        first = self._end.next
        assert first is not None
        assert first is not self._end
        self.remove(first)
        return first

    def _link(self, block: Block, before: Block) -> None:
        last = before.prev
        assert last is not None
        block.prev, block.next = last, before
        last.next = before.prev = block
        self.size += 1


class BlockPool:
    """All blocks of a cache.

    A block that nobody holds is free. With `enable_caching` it keeps its contents and its hash
    until it is handed out again, the least recently used first; blocks with nothing worth keeping
    go before them. Without, only blocks that somebody holds can be found.
    """

    def __init__(self, num_blocks: int, enable_caching: bool) -> None:
        self.num_blocks = num_blocks
        self.enable_caching = enable_caching
        self.blocks = [Block(id) for id in range(num_blocks)]
        self._free = FreeList()
        self._by_hash: dict[bytes, Block] = {}
        for block in self.blocks:
            self._free.append(block)

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, cached or not."""
        return self._free.size

    @property
    def num_cached(self) -> int:
        """Blocks that can be found by their hash, held or free."""
        return len(self._by_hash)

    def allocate(self, count: int) -> list[Block]:
        """Hand out `count` blocks, which must be free; what they held is forgotten now."""
        taken = []
        for _ in range(count):
            block = self._free.pop()
            self._forget(block)
            block.ref_count = 1
            taken.append(block)
        return taken

    def share(self, block: Block) -> None:
        """Hold a block that `lookup` found, with whoever else holds it."""
        if block.ref_count == 0:
            self._free.remove(block)
        block.ref_count += 1

    def free(self, blocks: Iterable[Block]) -> None:
        """Let go of blocks, in the order in which they may be handed out again: tails first."""
        for block in blocks:
            if block.ref_count <= 0:
                raise RuntimeError(f"block {block.id} was freed twice")
            block.ref_count -= 1
            if block.ref_count:
                continue
            if not self.enable_caching:
                self._forget(block)
            if block.hash:
                self._free.append(block)
            else:
                self._free.append_front(block)

    def cache(self, block: Block, digest: bytes) -> None:
        """Make a held block findable; the first block with a hash keeps it."""
        if self._by_hash.setdefault(digest, block) is block:
            block.hash = digest

    def lookup(self, digest: bytes) -> Block | None:
        """The block with that hash, free or held; it is not held for the caller yet."""
        return self._by_hash.get(digest)

    def clear(self) -> None:
        """Forget what every block holds, so that nothing is found."""
        for block in list(self._by_hash.values()):
            self._forget(block)

    def _forget(self, block: Block) -> None:
        if block.hash:
            del self._by_hash[block.hash]
            block.hash = b""
