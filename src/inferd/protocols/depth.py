"""How deep JSON from outside may be nested, and the check of it. Pure."""

import numpy as np

from inferd.errors import InvalidRequest

MAX_DEPTH = 100

_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1


def check_shallow(body: bytes) -> None:
    """Refuse JSON that has more brackets than it may be deep, which is quicker to see; raises
    ValueError."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        raise ValueError


def check_depth(body: bytes) -> None:
    """Refuse JSON nested deeper than any request needs; brackets in strings count too."""
    steps = _STEP[np.frombuffer(body, np.uint8)]
    if int(steps.cumsum(dtype=np.int64).max()) > MAX_DEPTH:
        raise InvalidRequest(f"JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})")
