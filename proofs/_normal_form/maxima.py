"""Maxima over an index, and with a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .cases import given
from .indices import fresh
from .polynomial import ZERO, Atom, Number, Poly, Refused, atom, poly, product
from .quotients import content, together
from .rounding import integral
from .signs import nonnegative, positive
from .substitution import rebuilds, substitute
from .sums import bind


def greatest(p: Poly, inside: Poly, i: Atom) -> Poly:
    """The greatest p over the indices i at which ``inside`` is 1."""

    def leaf(p: Poly, inside: Poly) -> Poly:
        outer = Poly({m: c for m, c in p.terms.items() if all(i not in a.free for a, _ in m)})
        p = p - outer
        if not p.terms:
            return outer
        factor, p = _positive_factor(p, i)
        name, bodies = bind(i, p, inside)
        return outer + factor * poly(atom("max", name, *bodies, binders=(name,)))

    return _outer_cases(leaf, i, p, inside)


def _positive_factor(p: Poly, i: Atom) -> tuple[Poly, Poly]:
    """What is positive, the same at each i and in each term of p; and the rest of p."""
    numerator, below = together(p)
    size, shared, rest = content(numerator)
    powers = [*shared.items(), *((a, -e) for a, e in below.items())]
    factor = product([(a, e) for a, e in powers if i not in a.free], size)
    return factor, product([(a, e) for a, e in powers if i in a.free]) * rest


def _outer_cases(leaf: Callable[..., Poly], i: Atom, *parts: Poly) -> Poly:
    guards = {a for p in parts for a in p.atoms() if a.boolean and i not in a.free}
    if not guards:
        return leaf(*parts)
    guard = min(guards, key=lambda a: a.key)
    yes = _outer_cases(leaf, i, *(given(p, guard) for p in parts))
    no = _outer_cases(leaf, i, *(substitute(p, {guard: ZERO}) for p in parts))
    return poly(guard) * yes + (1 - poly(guard)) * no


def at_least(number: Number, p: Poly) -> Poly:
    """max(p, number) for a number above 0, so that it is positive whatever p is."""
    if number <= 0:
        raise Refused(f"a maximum with {number} as if it were positive")
    if number == 1 and integral(p) and positive(p):
        return p
    value = p.number()
    if value is not None:
        return poly(max(value, number))
    return poly(number) if nonnegative(-p) else poly(atom("at_least", number, p))


@rebuilds("max")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    name, body, inside = a.args
    i = fresh(substitute(name.args[1], new))
    there = {**new, name: poly(i)}
    return greatest(substitute(body, there), substitute(inside, there), i)


@rebuilds("at_least")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return at_least(a.args[0], substitute(a.args[1], new))
