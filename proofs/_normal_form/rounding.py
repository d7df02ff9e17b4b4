"""Integers, and what rounds to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .cases import by_cases
from .facts import without_facts
from .polynomial import Atom, Poly, Refused, atom, first_positive, poly, product
from .quotients import above_zero
from .substitution import rebuilds, substitute
from .sums import peek


def integral(p: Poly) -> bool:
    """Whether the value of p is sure to be an integer."""
    return all(
        c == int(c) and all(_integral_atom(a) and e > 0 and e == int(e) for a, e in m)
        for m, c in p.terms.items()
    )


def _integral_atom(a: Atom) -> bool:
    if a.kind == "at_least":
        return a.args[0] == int(a.args[0]) and integral(a.args[1])
    if a.kind == "entry":
        return a.boolean or a.args[0].sort in {"index", "integer"}
    if a.kind == "sum":
        return integral(peek(a))
    return a.boolean or a.kind in {"index", "div", "mod", "dim", "floor", "round"}


def digits(p: Poly) -> Iterator[tuple[Poly, Poly, Atom]]:
    """Integers a and b, not 0, and a dimension d with ``p = a d + b``."""
    for d in sorted((a for a in p.atoms() if a.kind == "dim"), key=lambda a: a.key):
        high = Poly({m: c for m, c in p.terms.items() if (d, 1) in m})
        low = p - high
        if high.terms and low.terms and integral(high) and integral(low):
            yield high * product([(d, -1)]), low, d


def floor(p: Poly) -> Poly:
    """The greatest integer not above p; nothing else is known of it."""
    return p if integral(p) else poly(atom("floor", p))


def any_number(p: Poly) -> Poly:
    """A number that p determines; nothing else is known of it."""
    return by_cases(lambda q: poly(atom("any_number", q)), p)


def nearest(p: Poly) -> Poly:
    """The nearest integer, by whatever rule that is odd; nothing else is known of it."""
    if integral(p):
        return p
    ordered = first_positive(p)
    return poly(atom("round", ordered)) * (1 if ordered == p else -1)


def fewer_bits(bits: int, p: Poly) -> Poly:
    """A positive p rounded to fewer bits of its mantissa: positive; no more is known of it."""
    with without_facts():
        if not above_zero(p):
            raise Refused(f"fewer bits of {p}, which is not known to be positive")
    return poly(atom("fewer_bits", bits, p))


@rebuilds("floor")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return floor(substitute(a.args[0], new))


@rebuilds("any_number")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return any_number(substitute(a.args[0], new))


@rebuilds("round")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return nearest(substitute(a.args[0], new))


@rebuilds("fewer_bits")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return fewer_bits(a.args[0], substitute(a.args[1], new))
