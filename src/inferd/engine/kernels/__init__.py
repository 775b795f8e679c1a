"""The CPU's kernels, in Numba: vector types, products, attention, what lies between, and the team
of threads that runs them. They take addresses and refuse to know models, requests and files.

What Numba compiles is kept on disk. It looks only at the file that a function stands in, so the
folder is named by all files of this one: none is run with another's older half.
"""

import hashlib
import os
from pathlib import Path

from numba.core import config


def _digest() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"".join(f.read_bytes() for f in files), digest_size=8).hexdigest()


if not config.CACHE_DIR:  # NUMBA_CACHE_DIR goes before
    _base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    config.CACHE_DIR = str(Path(_base) / "inferd" / "kernels" / _digest())
