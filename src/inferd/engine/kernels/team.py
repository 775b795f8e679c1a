"""How threads of one team wait for each other: words in memory that are counted up, spinning while
the change must be near and sleeping (Linux futex) when it is not.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from inferd.engine.kernels.emit import define

START, ARRIVED, TURN, SLEEPERS, EXIT, PROGRAM, COUNT, PROFILE, COUNTERS = (
    64 * line for line in range(9)
)
"""The words of a team, in bytes from its address, each on a cache line of its own. START is raised
by one to begin a program, TURN by the last thread to arrive at a barrier: on these two threads
sleep. COUNTERS is the first of the counters from which threads take shares of an operation."""

SPINS_AT_BARRIER = 20_000
"""Some hundred microseconds: what one thread waits longer than this, another was not running."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _pointer(builder: Any, addr: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(addr, kind.as_pointer())


def _emit_add(builder: Any, addr: Any, value: Any) -> Any:
    return builder.atomic_rmw("add", _pointer(builder, addr, _I64), value, "seq_cst")


def _emit_load(builder: Any, addr: Any) -> Any:
    return builder.load_atomic(_pointer(builder, addr, _I64), "seq_cst", 8)


def _emit_store(builder: Any, addr: Any, value: Any) -> None:
    builder.store_atomic(value, _pointer(builder, addr, _I64), "seq_cst", 8)


atomic_add = define(types.int64, (types.int64, types.int64), _emit_add)  # gives the old value
atomic_load = define(types.int64, (types.int64,), _emit_load)
atomic_store = define(types.void, (types.int64, types.int64), _emit_store)


@intrinsic
def _syscall(
    typing: Any, number: Any, a: Any, b: Any, c: Any
) -> Any:  # the C library's, with the other arguments 0
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        declared = builder.module.globals.get("syscall")
        if declared is None:
            kind = ir.FunctionType(_I64, [_I64] * 7)
            declared = ir.Function(builder.module, kind, "syscall")
        zero = ir.Constant(_I64, 0)
        return builder.call(declared, [*args, zero, zero, zero])

    return signature(types.int64, *([types.int64] * 4)), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Tells the processor that this is a spinning loop."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.asm(ir.FunctionType(ir.VoidType(), []), _PAUSE, "", [], True)
        return context.get_dummy_value()

    return signature(types.void), generate


@intrinsic
def cycles(typing: Any) -> Any:
    """The processor's cycle counter."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = "llvm.readcyclecounter"
        declared = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(_I64, []), name
        )
        return builder.call(declared, [])

    return signature(types.int64), generate


_PAUSE = "pause" if platform.machine() == "x86_64" else "yield"
FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 202)
_WAIT, _WAKE = 128, 129  # FUTEX_WAIT and FUTEX_WAKE, private to the process


@njit(nogil=True, cache=True)
def wait_for_change(team: int, word: int, seen: int, spins: int) -> None:
    """Returns when the word is no longer `seen`: spins, then sleeps. Only its low half counts."""
    for _ in range(spins):
        if atomic_load(team + word) != seen:
            return
        pause()
    atomic_add(team + SLEEPERS, 1)
    while atomic_load(team + word) == seen:
        _syscall(FUTEX, team + word, _WAIT, seen)
    atomic_add(team + SLEEPERS, -1)


@njit(nogil=True, cache=True)
def change(team: int, word: int) -> None:
    """Raises the word by one and wakes who sleeps for it."""
    atomic_add(team + word, 1)
    if atomic_load(team + SLEEPERS) > 0:
        _syscall(FUTEX, team + word, _WAKE, 1 << 20)


@njit(nogil=True, cache=True)
def barrier(team: int, threads: int) -> None:
    """Returns when all threads have come here."""
    if threads == 1:
        return
    turn = atomic_load(team + TURN)
    if atomic_add(team + ARRIVED, 1) == threads - 1:
        atomic_store(team + ARRIVED, 0)
        change(team, TURN)
    else:
        wait_for_change(team, TURN, turn, SPINS_AT_BARRIER)
