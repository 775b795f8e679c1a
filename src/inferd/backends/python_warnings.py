"""What frameworks say through Python's `warnings` while they read a model: left out, or kept.

What is shown is decided for the whole process, and models load side by side: whoever leaves last
would leave behind what the first had set, so they take turns.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Leave them out: for frameworks whose warnings no user can act on."""
    with _turn, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def kept_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Keep them, each one."""
    with _turn, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
