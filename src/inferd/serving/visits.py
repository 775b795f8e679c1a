"""Visits to the HTTP routes of a model's own, which its workers answer.

A visit is given to the worker with the least to do, and stays there; nothing of it is done again
when that worker ends. It refuses to know any protocol and what the routes mean.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from inferd.errors import InferdError, ModelUnavailable, Overloaded, RequestTimeout
from inferd.types.visit import VisitHead
from inferd.workers.messages import (
    CHUNK_BYTES,
    CHUNKS_AHEAD,
    Body,
    Chunk,
    Command,
    Drunk,
    Head,
    Left,
    Parted,
    Taken,
    VisitEvent,
)
from inferd.workers.messages import Visit as Begin

MOST_VISITS: Final = 1024
"""Visits of one model at a time."""

OVERDUE_S: Final = 2.0
"""How long a worker may take to drop a visit whose time is over, before it is taken for hung."""

DRAIN_S: Final = 10.0
"""How long visits may go on to a model that is on its way out."""

DRAIN_LOOK_S: Final = 0.02

Send = Callable[[Command], None]
EndWorker = Callable[[InferdError], None]


class Visits:
    """Those that one worker is answering."""

    def __init__(self, send: Send, end_worker: EndWorker) -> None:
        self._send = send
        self._end_worker = end_worker
        self._visits: dict[int, Visit] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._visits)

    def open(self, head: VisitHead, body: bytes, timeout_s: float) -> "Visit":
        """Begin one; it has to be closed."""
        number = next(self._numbers)
        visit = self._visits[number] = Visit(number, self._send, self._end_worker, timeout_s)
        visit.begin(head, body)
        return visit

    def heard(self, event: VisitEvent) -> None:
        """What the worker says of one."""
        visit = self._visits.get(event.visit)
        if isinstance(event, Parted):
            self._visits.pop(event.visit, None)
        if visit is not None:
            visit.heard(event)

    def lost(self, why: InferdError) -> None:
        """The worker has ended."""
        visits, self._visits = self._visits, {}
        for visit in visits.values():
            visit.lose(why)


class Visit:
    """One visit: a head, then chunks until one is the last. `lost` says that its worker has ended,
    or will, rather than that its routes failed."""

    def __init__(self, number: int, send: Send, end_worker: EndWorker, timeout_s: float) -> None:
        self.lost = False
        self._number = number
        self._send = send
        self._end_worker = end_worker
        self._timeout_s = timeout_s
        self._body = memoryview(b"")
        self._came: asyncio.Queue[Head | Chunk | InferdError] = asyncio.Queue()
        self._owes = False
        """Whether the worker waits to hear that a chunk was taken."""
        self._whole = False
        self._ended = False
        self._overdue: asyncio.TimerHandle | None = None

    async def head(self) -> Head:
        """The head of the answer; raises BackendError, and RequestTimeout when it does not come in
        time."""
        try:
            async with asyncio.timeout(self._timeout_s or None):
                head = await self._next()
        except TimeoutError:
            why = RequestTimeout(f"the model's app did not answer within {self._timeout_s:g} s")
            self._leave()
            if not self._ended:
                loop = asyncio.get_running_loop()
                self._overdue = loop.call_later(OVERDUE_S, self._end_worker, why)
            raise why from None
        assert isinstance(head, Head)
        return head

    async def chunk(self) -> Chunk:
        """The next chunk; asking for it says that the one before has gone on. Raises
        BackendError."""
        if self._owes:
            self._send(Taken(self._number))
        self._owes = True
        chunk = await self._next()
        assert isinstance(chunk, Chunk)
        return chunk

    def close(self) -> None:
        """Nobody waits for more."""
        if not self._whole:
            self._leave()

    async def _next(self) -> Head | Chunk:
        came = await self._came.get()
        if isinstance(came, InferdError):
            raise came
        return came

    def _leave(self) -> None:
        self._whole = True
        self._body = memoryview(b"")
        if not self._ended:
            self._send(Left(self._number))

    # -- told by the worker ----------------------------------------------------------------------

    def begin(self, head: VisitHead, body: bytes) -> None:
        """Send as much as may be on its way."""
        self._send(Begin(self._number, head))
        self._body = memoryview(body)
        self._send_piece()
        for _ in range(CHUNKS_AHEAD - 1):
            if self._body:
                self._send_piece()

    def heard(self, event: VisitEvent) -> None:
        """What the worker says."""
        match event:
            case Drunk():
                if self._body:
                    self._send_piece()
            case Parted(_, error):
                self._end()
                if error is not None:
                    self._came.put_nowait(error)
            case Chunk():
                self._whole = self._whole or not event.more
                self._came.put_nowait(event)
            case Head():
                self._came.put_nowait(event)

    def lose(self, why: InferdError) -> None:
        """The worker has ended."""
        self.lost = True
        self._end()
        self._came.put_nowait(why)

    def _end(self) -> None:
        self._ended = True
        if self._overdue is not None:
            self._overdue.cancel()

    def _send_piece(self) -> None:
        data, self._body = self._body[:CHUNK_BYTES], self._body[CHUNK_BYTES:]
        self._send(Body(self._number, bytes(data), bool(self._body)))


class VisitedSeat(Protocol):
    """A place for a worker that answers visits; `load` is how much it has to do, None where it
    cannot take any."""

    visits: Visits

    @property
    def load(self) -> tuple[bool, int] | None: ...


class MountedApp:
    """The HTTP routes of one model, below the path `mount`."""

    def __init__(
        self, name: str, mount: str, seats: Sequence[VisitedSeat], timeout_s: float
    ) -> None:
        self.mount = mount
        self._name = name
        self._seats = seats
        self._timeout_s = timeout_s

    def __len__(self) -> int:
        return sum([len(seat.visits) for seat in self._seats])

    def visit(self, head: VisitHead, body: bytes) -> Visit:
        """Begin a visit; it has to be closed. Raises ModelUnavailable and Overloaded."""
        if len(self) >= MOST_VISITS:
            raise Overloaded(f"model '{self._name}' has {MOST_VISITS} visits to its app")
        free = [(load, seat) for seat in self._seats if (load := seat.load) is not None]
        if not free:
            raise ModelUnavailable(f"model '{self._name}' has no worker that runs")
        _, seat = min(free, key=lambda pair: pair[0])
        return seat.visits.open(head, body, self._timeout_s)

    async def drain(self) -> None:
        """Wait for the end of the visits there are, but not for ever: an answer may have none."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DRAIN_S
        while len(self) and loop.time() < until_s:
            await asyncio.sleep(DRAIN_LOOK_S)
