"""Answers in this process's memory: those that were asked for last, within a number of bytes."""

from collections import OrderedDict
from dataclasses import dataclass

from inferd.caching.answer import KeptAnswer


@dataclass(slots=True)
class CacheUsage:
    """What a cache holds, in bytes and in answers, of how many bytes at most; `evictions` are the
    answers that made room for others."""

    size_bytes: int
    used_bytes: int = 0
    entries: int = 0
    evictions: int = 0


class LocalCache:
    """Holds answers of `size_bytes` together; the one that was not asked for longest goes first."""

    def __init__(self, size_bytes: int) -> None:
        self.usage = CacheUsage(size_bytes)
        self._answers: OrderedDict[bytes, KeptAnswer] = OrderedDict()

    def get(self, key: bytes) -> KeptAnswer | None:
        """The answer to a request."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: KeptAnswer) -> None:
        """Keep an answer; one that is larger than the whole cache is not kept."""
        usage, size = self.usage, answer.size
        if size > usage.size_bytes:
            return
        before = self._answers.pop(key, None)
        if before is not None:
            usage.used_bytes -= before.size
        while usage.used_bytes + size > usage.size_bytes:
            _, oldest = self._answers.popitem(last=False)
            usage.used_bytes -= oldest.size
            usage.evictions += 1
        self._answers[key] = answer
        usage.used_bytes += size
        usage.entries = len(self._answers)
