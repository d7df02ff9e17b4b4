"""The limits of time and memory of one proof, looked at while terms are made."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

_CALLS_BETWEEN_LOOKS = 256
MEMORY = 4 << 30
"""A proof ends when the process has grown by this many bytes."""


class Exceeded(Exception):
    """A limit was reached before the proof was decided; the message says which."""


@dataclass
class _Limit:
    stated: str
    ends: float  # of the clock
    ends_of_processor: float  # of this process's own time
    bytes: float
    calls: int = 0  # one for each term

    def look(self) -> None:
        self.calls += 1
        if self.calls % _CALLS_BETWEEN_LOOKS:
            return
        if time.perf_counter() > self.ends or time.process_time() > self.ends_of_processor:
            raise Exceeded(f"it grew past the limit of time, {self.stated}: {self.calls:,} terms")
        if self.calls % (64 * _CALLS_BETWEEN_LOOKS) == 0 and resident() > self.bytes:
            limit = f"{MEMORY / 2**30:.3g} GiB"
            raise Exceeded(f"it grew past the limit of memory, {limit}: {self.calls:,} terms")


_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)


def look() -> None:
    """Raises ``Exceeded`` if the proof that runs has reached a limit."""
    limit = _limit.get()
    if limit is not None:
        limit.look()


@contextlib.contextmanager
def limited(seconds: float, stated: str, of_processor: float = math.inf) -> Iterator[None]:
    """Inside, terms are made for so many seconds at most, by the clock and of this process.

    ``stated`` is the limit in words.
    """
    ends, ends_of_processor = time.perf_counter() + seconds, time.process_time() + of_processor
    limit = _Limit(stated, ends, ends_of_processor, resident() + MEMORY)
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def resident() -> int:
    """The bytes of memory that the process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes, the most so far
