"""What stands between the asynchronous face and an engine: a host, the same wherever it runs."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from inferd.engine.host.messages import Command, Event
from inferd.errors import InferdError


class EngineHost(Protocol):
    """One life of an engine, from its load to its end. Used on the event loop's thread."""

    def send(self, command: Command) -> None:
        """Tell the engine; commands are obeyed in order, and get lost behind its end."""

    async def wait(self) -> InferdError:
        """Wait until the engine has ended by itself; why."""


Hear = Callable[[Event], None]
"""Takes what an engine says, in order, on the event loop's thread."""

StartHost = Callable[[Hear], AbstractAsyncContextManager[EngineHost]]
"""Starts an engine, which loads first. Leaving the context ends it, and then nothing of it is left:
but a thread that still loads cannot be interrupted, and ends when it has."""
