"""What is known in one branch of a case distinction, and what was computed under it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

Term = Any  # a ``polynomial.Poly``, whose file builds on this one

_facts: ContextVar[frozenset[Term]] = ContextVar("facts", default=frozenset())


def facts() -> frozenset[Term]:
    """The terms known not to be 0 here; ``knowing`` tells them."""
    return _facts.get()


@contextlib.contextmanager
def knowing(*nonzero: Term) -> Iterator[None]:
    """Inside, these terms are not 0."""
    token = _facts.set(_facts.get() | frozenset(nonzero))
    try:
        yield
    finally:
        _facts.reset(token)


@contextlib.contextmanager
def without_facts() -> Iterator[None]:
    """Inside, only what holds in every case is known."""
    token = _facts.set(frozenset())
    try:
        yield
    finally:
        _facts.reset(token)


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
