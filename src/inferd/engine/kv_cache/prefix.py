"""Names for what a block holds: a hash of its tokens, of all before them, and of what else their
keys and values hang on (the model, the salt that keeps tenants apart). Pure.

The hash is cryptographic: nobody can make a prompt that finds another tenant's blocks.
"""

from array import array
from hashlib import blake2b

DIGEST_SIZE = 16


def root_hash(*extras: str) -> bytes:
    """Where a chain starts: equal only for equal `extras`."""
    digest = blake2b(digest_size=DIGEST_SIZE)
    for extra in extras:
        data = extra.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def extend_hashes(hashes: list[bytes], tokens: list[int], block_size: int, root: bytes) -> None:
    """Append the hashes of those full blocks of `tokens` that `hashes` does not have yet.

    Token ids are of 32 bits. Tokens only ever grow, so what was hashed stays true.
    """
    parent = hashes[-1] if hashes else root
    end = len(tokens) - block_size + 1
    for start in range(len(hashes) * block_size, end, block_size):
        block = array("i", tokens[start : start + block_size])
        parent = blake2b(parent + block.tobytes(), digest_size=DIGEST_SIZE).digest()
        hashes.append(parent)
