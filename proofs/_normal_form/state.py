"""The state of one proof: its limits of time and memory, what it knows, and what it remembers.

The limits are looked at while terms are made. What is known holds in one case of a distinction.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

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
def during(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """Inside, a variable has this value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def limited(
    seconds: float, stated: str, of_processor: float = math.inf
) -> contextlib.AbstractContextManager[None]:
    """Inside, terms are made for so many seconds at most, by the clock and of this process.

    ``stated`` is the limit in words.
    """
    ends, ends_of_processor = time.perf_counter() + seconds, time.process_time() + of_processor
    return during(_limit, _Limit(stated, ends, ends_of_processor, resident() + MEMORY))


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


Term = Any  # a ``terms.Poly``, whose file builds on this one

_facts: ContextVar[frozenset[Term]] = ContextVar("facts", default=frozenset())


def facts() -> frozenset[Term]:
    """The terms known not to be 0 here; ``knowing`` tells them."""
    return _facts.get()


def knowing(*nonzero: Term) -> contextlib.AbstractContextManager[None]:
    """Inside, these terms are not 0."""
    return during(_facts, _facts.get() | frozenset(nonzero))


def without_facts() -> contextlib.AbstractContextManager[None]:
    """Inside, only what holds in every case is known."""
    return during(_facts, frozenset())


_memories: list[dict[tuple, Any]] = []

Remembered = TypeVar("Remembered", bound=Callable[..., Any])


def remembered(function: Remembered) -> Remembered:
    """A function of terms and facts alone that computes each answer once in a proof."""
    answers: dict[tuple, Any] = {}
    _memories.append(answers)

    @functools.wraps(function)
    def ask(*args: Any) -> Any:
        key = (args, _facts.get())
        if key not in answers:
            answers[key] = function(*args)
        return answers[key]

    return cast(Remembered, ask)


def forget() -> None:
    """Drops what was remembered: it holds for the least sizes of one proof."""
    for answers in _memories:
        answers.clear()
