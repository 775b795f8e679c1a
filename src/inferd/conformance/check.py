"""The table of checks: plain functions, each with its area and what it needs of a server.

    @check("metadata", models=("add_sub",))
    def a_model_says_its_tensors(wire: Wire) -> None:
        same("the inputs of add_sub", wire.metadata("add_sub")["inputs"], [...])

A check is run once for each wire that it names. It returns, or raises Mismatch, or Skipped.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

WIRES = ("http", "grpc")

MOMENT_S = 2.0


class Mismatch(Exception):
    """The server did not do what was expected of what it was asked."""

    def __init__(self, asked: str, expected: object, got: object) -> None:
        super().__init__(f"{asked}: expected {expected}, got {got}")
        self.asked = asked
        self.expected = _short(expected)
        self.got = _short(got)


class Skipped(Exception):
    """The server has not what the check needs; the message says what."""


class Check(NamedTuple):
    """One entry of the table. `case` is what the function gets beside the wire, () for nothing."""

    area: str
    name: str
    run: Callable[..., None]
    wires: tuple[str, ...]
    models: tuple[str, ...]
    extensions: tuple[str, ...]
    case: tuple[Any, ...] = ()


CHECKS: list[Check] = []


def check(
    area: str, *, models: Sequence[str] = (), extensions: Sequence[str] = (),
    wires: Sequence[str] = WIRES, cases: Sequence[tuple[Any, ...]] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:  # fmt: skip
    """Put a function into the table, once for each of its cases. Names of models may have a place
    for the first value of a case: "identity_{}"."""

    def add(run: Callable[..., None]) -> Callable[..., None]:
        for case in cases or [()]:
            name = run.__name__.replace("_", " ") + (f" [{case[0]}]" if case else "")
            needed = tuple(model.format(*case) for model in models)
            CHECKS.append(
                Check(area, name, run, tuple(wires), needed, tuple(extensions), tuple(case))
            )
        return run

    return add


def same(asked: str, got: object, expected: object) -> None:
    """Raises Mismatch unless both are equal."""
    if got != expected:
        raise Mismatch(asked, expected, got)


def becomes(asked: str, read: Callable[[], object], expected: object) -> None:
    """Raises Mismatch unless it is equal in a moment: a server may count behind its answer."""
    deadline = time.monotonic() + MOMENT_S
    while (got := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    same(asked, got, expected)


def holds(asked: str, held: object, expected: str, got: object) -> None:
    """Raises Mismatch unless it holds; `expected` says it in words."""
    if not held:
        raise Mismatch(asked, expected, got)


def says(asked: str, got: object, *phrases: str) -> None:
    """Raises Mismatch unless a text has all of these in it."""
    for phrase in phrases:
        if phrase.lower() not in str(got).lower():
            raise Mismatch(asked, f"a message with {phrase!r}", got)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 500 else f"{text[:497]}..."
