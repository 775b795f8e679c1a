"""The alphabet of byte-level tokenizers, in which each byte is written as a printable character.

It refuses to know vocabularies; it is given a function that looks tokens up.
"""

from collections.abc import Callable


def _alphabet() -> dict[str, int]:
    """Character to byte: printable Latin-1 stands for itself, all others follow from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTES = _alphabet()


class BytePieces(dict[int, bytes]):
    """The bytes of each token id, worked out when first asked for; b"" for an id that is none."""

    def __init__(self, token: Callable[[int], str | None]) -> None:
        super().__init__()
        self._token = token

    def __missing__(self, token_id: int) -> bytes:
        token = self._token(token_id)
        if token is None:
            return b""  # not kept: ids that are no tokens are without number
        try:
            piece = bytes([_BYTES[char] for char in token])
        except KeyError:
            piece = token.encode()  # an added token, which is written as it is
        self[token_id] = piece
        return piece
