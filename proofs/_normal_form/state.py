"""Keeps the state of one proof: its limits of time and memory, its facts and remembered answers.

The limits are checked while terms are made. A fact holds in one case of a case distinction.
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
    stated: str  # the limit of time, in words
    ends: float  # in seconds of ``time.perf_counter``
    ends_of_processor: float  # in seconds of ``time.process_time``
    bytes: float  # of memory that the process holds
    calls: int = 0  # of ``look``, one for each polynomial that is made

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
    """Sets a context variable to a value inside the context."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def limited(
    seconds: float, stated: str, of_processor: float = math.inf
) -> contextlib.AbstractContextManager[None]:
    """Limits the time and the memory that making terms inside the context may take.

    ``seconds`` is a limit by the clock and ``of_processor`` one of this process's processor time.
    ``stated`` is the limit of time in words, for the message of ``Exceeded``.
    """
    ends, ends_of_processor = time.perf_counter() + seconds, time.process_time() + of_processor
    return during(_limit, _Limit(stated, ends, ends_of_processor, resident() + MEMORY))


def resident() -> int:
    """Returns how many bytes of memory the process holds, or 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: the most so far, in bytes


Term = Any  # a ``terms.Poly``, but ``terms`` imports this file

_facts: ContextVar[frozenset[Term]] = ContextVar("facts", default=frozenset())


def facts() -> frozenset[Term]:
    """Returns the terms that are known not to be 0 in the current context (see ``knowing``)."""
    return _facts.get()


def knowing(*nonzero: Term) -> contextlib.AbstractContextManager[None]:
    """Assumes inside the context that these terms, too, are not 0."""
    return during(_facts, _facts.get() | frozenset(nonzero))


def without_facts() -> contextlib.AbstractContextManager[None]:
    """Drops all facts inside the context, so that only what holds in every case is known."""
    return during(_facts, frozenset())


_memories: list[dict[tuple, Any]] = []

Remembered = TypeVar("Remembered", bound=Callable[..., Any])


def remembered(function: Remembered) -> Remembered:
    """Makes a function remember its answers, which must depend on its arguments and facts alone."""
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
    """Drops all remembered answers, which hold only for the least sizes of one proof."""
    for answers in _memories:
        answers.clear()
