"""The start and the end of a process that has a socket to its server and nothing else of it.

Its end of file is the one sign of an end, both ways: a process that has ended, however it did, has
closed its socket, and one whose server has gone, or wants it no more, reads the end of file.
"""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

END_S: Final = 5.0
"""How long a process whose socket is closed may take to end by itself."""


def start_process(
    arguments: Sequence[str], fds: Sequence[int], *, environment: Mapping[str, str] | None = None,
    output: int | None = None,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """A process that inherits file descriptors, and the mask of the signals that are sent to the
    whole group when a server is to stop: its requests are to be finished first. Masked before it is
    there, so that no moment is without.

    What it prints goes to the file descriptor `output`, if there is one.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen(
            arguments, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=environment,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that has no socket any more, by force if it must be; its exit status."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
