"""A program: the operations of a model step in a row, run by a team of threads.

An operation is 32 words of 8 bytes: word 0 is the address of the kernel, the others are the
kernel's own. All threads run every operation, take shares of it from a common counter, and meet at
a barrier behind it. So a whole step is one call from Python without the GIL, and the team is the
only thread pool. Between programs the team sleeps.
"""

import mmap
import threading
from functools import cached_property
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from inferd.engine.kernels.attention import attend
from inferd.engine.kernels.elementwise import add_norm, embed, norm, rotate
from inferd.engine.kernels.linear import linear_bf16, linear_f32, linear_i8
from inferd.engine.kernels.linear_i4 import linear_i4
from inferd.engine.kernels.team import (
    COUNT,
    COUNTERS,
    EXIT,
    PROFILE,
    PROGRAM,
    START,
    atomic_load,
    barrier,
    change,
    cycles,
    wait_for_change,
)
from inferd.engine.kernels.vector import get_i64, put_i64

WORDS = 32
OPERATION_BYTES = 8 * WORDS
SPINS_AT_START = 2_000
HUGE_PAGE_BYTES = 2 << 20


class Kernel:
    """A function of Numba's that programs can call. It is compiled when it is first asked for: a
    model uses few of them, and one function that called all would be compiled with all in it."""

    def __init__(self, function: Any) -> None:
        self._function = function

    @cached_property
    def address(self) -> int:
        """Where its machine code begins."""
        arguments = (types.int64,) * 4
        self._function.compile(arguments)
        compiled = self._function.overloads[arguments]
        name = compiled.fndesc.llvm_func_name
        return int(compiled.library.get_pointer_to_function(name))


class Code:
    """The kernels by name."""

    EMBED = Kernel(embed)
    NORM = Kernel(norm)
    ADD_NORM = Kernel(add_norm)
    ROTATE = Kernel(rotate)
    ATTEND = Kernel(attend)
    LINEAR_I8 = Kernel(linear_i8)
    LINEAR_I4 = Kernel(linear_i4)
    LINEAR_BF16 = Kernel(linear_bf16)
    LINEAR_F32 = Kernel(linear_f32)


@intrinsic
def call_kernel(typing: Any, address: Any, op: Any, counter: Any, thread: Any, threads: Any) -> Any:
    """Calls what Numba compiled, by Numba's own convention: where to put the result and an
    exception (there are none), then the arguments; a status comes back."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer.as_pointer()] * 2 + [word] * 4)
        places = [cgutils.alloca_once(builder, pointer) for _ in range(2)]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*places, *args[1:]])
        return context.get_dummy_value()

    return signature(types.void, *([types.int64] * 5)), generate


@njit(nogil=True, cache=True)
def _run(team: int, thread: int, threads: int) -> None:
    """The program, as one of the team's threads."""
    count, program, profile = (
        atomic_load(team + COUNT), atomic_load(team + PROGRAM), atomic_load(team + PROFILE)
    )  # fmt: skip
    before = cycles()
    for number in range(count):
        op = program + number * OPERATION_BYTES
        counter = team + COUNTERS + 64 * number
        call_kernel(get_i64(op), op, counter, thread, threads)
        barrier(team, threads)
        if profile != 0 and thread == 0:
            now = cycles()
            at = profile + 8 * number
            put_i64(at, get_i64(at) + now - before)
            before = now


@njit(nogil=True, cache=True)
def _lead(team: int, threads: int) -> None:
    """Thread 0's part of one program."""
    for number in range(atomic_load(team + COUNT)):
        put_i64(team + COUNTERS + 64 * number, 0)
    change(team, START)
    _run(team, 0, threads)


@njit(nogil=True, cache=True)
def _follow(team: int, thread: int, threads: int) -> None:
    """Another thread's whole life."""
    seen = 0
    while True:
        wait_for_change(team, START, seen, SPINS_AT_START)
        seen += 1
        if atomic_load(team + EXIT) != 0:
            return
        _run(team, thread, threads)


class Team:
    """`threads` threads, the calling one among them; programs of at most `most_operations`."""

    def __init__(self, threads: int, most_operations: int) -> None:
        self.threads = threads
        self._memory = aligned(COUNTERS + 64 * most_operations)
        self._team = self._memory.ctypes.data
        self.profile: NDArray[np.int64] = np.zeros(most_operations, np.int64)
        """Cycles spent in each operation, where `profiling` is on."""
        self._others = [
            threading.Thread(
                target=_follow, args=(self._team, number, threads), daemon=True,
                name=f"inferd-engine-{number}",
            )
            for number in range(1, threads)
        ]  # fmt: skip
        for thread in self._others:
            thread.start()

    def profiling(self, on: bool) -> None:
        """Whether programs add to `profile`."""
        self._word(PROFILE)[0] = self.profile.ctypes.data if on else 0

    def run(self, program: NDArray[np.int64], count: int) -> None:
        """Run the first `count` operations of a program [operations, WORDS]; always from the same
        thread, with the GIL released."""
        self._word(PROGRAM)[0] = program.ctypes.data
        self._word(COUNT)[0] = count
        _lead(self._team, self.threads)

    def close(self) -> None:
        """End the other threads."""
        self._word(EXIT)[0] = 1
        _release(self._team)
        for thread in self._others:
            thread.join()

    def _word(self, offset: int) -> NDArray[np.int64]:
        return self._memory[offset : offset + 8].view(np.int64)


@njit(nogil=True, cache=True)
def _release(team: int) -> None:
    change(team, START)


def aligned(size: int, alignment: int = 64) -> NDArray[np.uint8]:
    """Zeroed bytes whose address is a multiple of `alignment`."""
    raw = np.zeros(size + alignment, np.uint8)
    first = -raw.ctypes.data % alignment
    return raw[first : first + size]


def large(size: int) -> NDArray[np.uint8]:
    """Zeroed bytes in huge pages where the system has them: what is read all over every step would
    otherwise wait for the processor's page tables."""
    # Private: memory that can be shared gets no huge pages.
    memory = mmap.mmap(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    first = -whole.ctypes.data % HUGE_PAGE_BYTES
    return whole[first : first + size]


def float_bits(value: float) -> int:
    """A float32 as the word of an operation."""
    return int(np.float32(value).view(np.int32))


def operation(kernel: Kernel, words: dict[Any, int]) -> NDArray[np.int64]:
    """One operation from its words by number."""
    row = np.zeros(WORDS, np.int64)
    row[0] = kernel.address
    for word, value in words.items():
        row[int(word)] = value
    return row
