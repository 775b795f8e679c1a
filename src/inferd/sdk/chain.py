"""The functions that a call goes through, one after another, sync or async, whole or as a stream.

It knows functions and values: no tensors, and not what an error means.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator
from typing import Any

from inferd.sdk.model import Model


class Chain:
    """`preprocess`, `predict` and `postprocess` of a model, those that it has; or `explain` alone.

    What `preprocess` returns goes to `predict`, a tuple is spread over its parameters.
    `postprocess` gets what `predict` returned, of a stream each part.
    """

    def __init__(self, model: Model, method: str) -> None:
        whole = method == "predict"
        self._function = getattr(model, method)
        self._before = getattr(model, "preprocess", None) if whole else None
        self._after = getattr(model, "postprocess", None) if whole else None

    def call(self, keywords: dict[str, Any]) -> Any:
        """Run all."""
        value = self._begin(keywords)
        return value if self._after is None else self._after(value)

    async def acall(self, keywords: dict[str, Any]) -> Any:
        """Run all, of which any may be async."""
        value = await self._abegin(keywords)
        return value if self._after is None else await _settled(self._after(value))

    def stream(self, keywords: dict[str, Any]) -> Generator[Any, None, None]:
        """The parts; closing it closes the author's generator."""
        parts = iter(self._begin(keywords))
        try:
            for part in parts:
                yield part if self._after is None else self._after(part)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    async def astream(self, keywords: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """The parts, of functions of which any may be async."""
        parts = _each(await self._abegin(keywords))
        try:
            async for part in parts:
                yield part if self._after is None else await _settled(self._after(part))
        finally:
            close = getattr(parts, "aclose", None)
            if close is not None:
                await close()

    def _begin(self, keywords: dict[str, Any]) -> Any:
        if self._before is None:
            return self._function(**keywords)
        return self._function(*_spread(self._before(**keywords)))

    async def _abegin(self, keywords: dict[str, Any]) -> Any:
        if self._before is None:
            return await _settled(self._function(**keywords))
        return await _settled(self._function(*_spread(await _settled(self._before(**keywords)))))


def _spread(value: Any) -> tuple[Any, ...]:
    # A NamedTuple is one value that has a meaning of its own.
    return value if type(value) is tuple else (value,)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _each(parts: Any) -> AsyncIterator[Any]:
    """The parts of an async generator, or of a plain one."""
    if isinstance(parts, AsyncIterable):
        return aiter(parts)
    return _async(iter(parts))


async def _async(parts: Iterator[Any]) -> AsyncIterator[Any]:
    try:
        for part in parts:
            yield part
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
