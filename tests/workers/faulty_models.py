"""Models that do to their process what models do, for the tests beside this."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

import inferd

Rows = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)]


class Faulty(inferd.Model, timeout_s=3, memory_limit_mb=400):
    """Does what it is told to."""

    def load(self) -> None:
        self.hoard: list[object] = []

    def predict(self, what: str, seconds: float = 0.0) -> str:
        match what:
            case "exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "sys.exit":
                sys.exit(4)
            case "raise":
                raise ValueError("no such thing")
            case "half":
                raise ValueError("half a pair: \udc80")
            case "hang":
                threading.Event().wait()
            case "hoard":
                self.hoard.append(np.ones(1 << 26))  # 512 MB
                threading.Event().wait()
            case "threads":
                for _ in range(20):
                    threading.Thread(target=threading.Event().wait, daemon=True).start()
            case "print":
                print("printed by the model: 100%s")
                os.write(2, b"written by C code\n")
            case "fork":
                if os.fork() == 0:
                    time.sleep(3)
                    os._exit(0)
                os._exit(5)
            case "wrong type":
                return 7  # type: ignore[return-value]
        return f"{what} in {os.getpid()}"


class Batched(inferd.Model, max_batch_size=8, max_queue_delay_microseconds=100_000):
    """One row of these ends the process, wherever it stands in a batch."""

    def predict(self, x: Rows) -> npt.NDArray[np.float32]:
        if np.any(x == 13):
            os._exit(13)
        if np.any(x == 14):
            raise ValueError("fourteen")
        return x * 2


class Misshapen(inferd.Model, max_batch_size=8):
    def predict(self, x: Rows) -> Rows:
        return x[:, :1] if x[0, 0] == 1 else x[:0] if x[0, 0] == 2 else x


class Keeper(inferd.Model, max_batch_size=4):
    """Keeps what it was lent, which it should not."""

    def load(self) -> None:
        self.first: npt.NDArray[np.float32] | None = None

    def predict(
        self,
        x: Annotated[npt.NDArray[np.float32], inferd.Shape(None, 40_000)],
        more: Annotated[npt.NDArray[np.float32], inferd.Shape(None, 300_000)],
    ) -> npt.NDArray[np.float32]:
        if self.first is None:
            self.first = x
        return self.first[:, 0]


class Slow(inferd.Model):
    """Counts until nobody listens any more, and says so in a file."""

    async def predict(self, to: int, mark: str) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
        finally:
            Path(mark).write_text("closed")


class Counter(inferd.Model):
    def predict(self, to: int, fail_at: int = -1) -> Iterator[int]:
        for number in range(to):
            if number == fail_at:
                raise ValueError(f"at {number}")
            yield number


class Together(inferd.Model, timeout_s=1.0):
    """Asynchronous: calls meet."""

    async def load(self) -> None:
        import asyncio

        self.met = asyncio.Event()
        self.here = 0

    async def predict(self, wanted: int) -> int:
        if wanted == 13:
            os._exit(13)
        self.here += 1
        if self.here >= wanted:
            self.met.set()
        await self.met.wait()
        return self.here


class Remembers(inferd.Model, instances=2):
    def predict(self, number: int, session: inferd.Session) -> list[int]:
        seen = session.state.setdefault("seen", [])
        seen.append(number)
        return [*seen, os.getpid()]


class Asks(inferd.Model):
    counter = inferd.depends(Counter)
    batched = inferd.depends("Batched")

    def predict(self, number: int) -> list[float]:
        rows = [self.batched.predict(x=np.full(2, n, np.float32)) for n in range(number)]
        return [float(row["output"][0] if isinstance(row, dict) else row[0]) for row in rows]

    def explain(self, to: int) -> list[int]:
        """By the parts of a stream."""
        return list(self.counter.stream(to=to))


class Dying(inferd.Model):
    """Lives, as long as it is not asked to end as soon as it has loaded, for good."""

    def load(self) -> None:
        mark = Path(os.environ.get("DYING_MARK", "/nonexistent"))
        if mark.exists():
            threading.Timer(0.05, os._exit, (9,)).start()

    def predict(self, mark: str = "") -> str:
        return "lives"


class Unloadable(inferd.Model):
    def load(self) -> None:
        raise RuntimeError("the weights are not here")

    def predict(self) -> str:
        return ""
