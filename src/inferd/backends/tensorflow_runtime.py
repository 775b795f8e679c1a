"""TensorFlow, brought to life once for the process: quiet, on as many threads as it may have, and
without taking all memory of a GPU. What it settles first, it settles for good.
"""

import functools
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from inferd.backends.python_warnings import without_warnings
from inferd.errors import BackendError, ConfigError

_CHATTER = (b"All log messages before absl", b"port.cc", b"cudart_stub.cc", b"cpu_feature_guard.cc")
_LOCK = threading.Lock()


def tensorflow(threads: int) -> Any:
    """The module `tensorflow`; raises ConfigError where it is not installed.

    `threads` become the one pool that all its models share, if they are the first to ask.
    """
    with _LOCK:
        return _alive(threads)


@functools.cache
def _alive(threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _without_chatter():
            _load_triton_first()
            import tensorflow as tf
    except ImportError as error:
        raise ConfigError(
            f"backend 'tensorflow' needs a package that is not installed ({error}); "
            "install it with: pip install 'inferd[tensorflow]'"
        ) from error
    settle(tf, threads)
    return tf


def settle(tf: Any, threads: int) -> None:
    """Say how much of the machine it may take, unless another user of it in this process has."""
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if not tf.config.threading.get_intra_op_parallelism_threads():
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        if "cannot be modified after" not in str(error):
            raise BackendError(f"TensorFlow cannot be set up: {error}") from error


def _load_triton_first() -> None:
    """Triton, which torch imports once it compiles or exports, has an LLVM of its own; loaded
    behind that of TensorFlow, it ends the process. The other way round both live."""
    if importlib.util.find_spec("triton") is not None:
        with suppress(ImportError):
            importlib.import_module("triton")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Leave out what TensorFlow writes on standard error when it is imported, whatever its log
    level is. What others write meanwhile is written when it is over. One at a time."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written, without_warnings():
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            lines = [line for line in written if not any(part in line for part in _CHATTER)]
            os.write(2, b"".join(lines))
