"""Computes common denominators, common factors and reciprocals of terms.

``recip`` is defined as 0 where its argument is 0. So an identity that is proved in one case holds
everywhere once both sides are multiplied by the 0-1 term of the case.
"""

from __future__ import annotations

import math
from fractions import Fraction

from .cases import by_cases
from .indices import substitute
from .signs import atom_positive, nonnegative, positive
from .state import facts, without_facts
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Number,
    Poly,
    Refused,
    add_all,
    always,
    atom,
    kinds,
    made,
    poly,
    product,
)


def together(p: Poly) -> tuple[Poly, dict[Atom, Number]]:
    """Returns p as a fraction: the numerator, and the denominator as powers of positive atoms."""
    below: dict[Atom, Number] = {}
    while True:
        low: dict[Atom, Number] = {}
        for m in p.terms:
            for a, e in m:
                if a.kind == "recip" and atom_positive(a.args[0]):
                    a, e = a.args[0], -e
                if e < low.get(a, 0):
                    low[a] = e
        if not low:
            return p, below
        for a, e in low.items():
            below[a] = below.get(a, 0) - e
        up = [(a, -e) for a, e in low.items()]
        p = add_all(product([*m, *up], c) for m, c in p.terms.items())


def factored(p: Poly) -> tuple[Fraction, dict[Atom, Number], Poly]:
    """Returns p as a product of a number, powers of positive atoms, and a term for the rest.

    The number and the powers are the largest that all terms of p share.
    """
    p, below = together(p)
    shared: dict[Atom, Number] | None = None
    for m in p.terms:
        powers = {a: e for a, e in m if a.sure}
        if shared is None:
            shared = powers
        else:
            shared = {a: min(e, powers[a]) for a, e in shared.items() if a in powers}
    shared = shared or {}
    numbers = [Fraction(c) for c in p.terms.values()]
    size = Fraction(
        math.gcd(*(c.numerator for c in numbers)), math.lcm(*(c.denominator for c in numbers))
    )
    down = [(a, -e) for a, e in shared.items()]
    rest = add_all(product([*m, *down], c / size) for m, c in p.terms.items())
    for a, e in below.items():
        shared[a] = shared.get(a, 0) - e
    return size, shared, rest


def above_zero(p: Poly) -> bool:
    """Returns whether p, written as one fraction, is certain to be above 0."""
    return positive(together(p)[0])


def inverse(p: Poly) -> Poly:
    """Returns 1 / p, or raises ``Refused`` if p is not known to differ from 0."""
    return _inverse_of_ramps(p) or by_cases(_inverse, p)


def reciprocal(p: Poly) -> Poly:
    """Returns 1 / p, or 0 where p is 0."""
    return _inverse_of_ramps(p) or by_cases(lambda q: _inverse(q, anywhere=True), p)


def _inverse_of_ramps(p: Poly) -> Poly | None:
    """Returns 1 / p for a positive ``p = r + c max(q, 0) + d max(-q, 0)``, or None for another p.

    An example is ``1 + abs(q)``. This p is not split by cases, because in the case q > 0 it would
    be ``r + c q``, which may be 0 elsewhere.
    """
    guards = [a for a in p.atoms() if a.boolean]
    if len(guards) != 1 or guards[0].kind != "positive":
        return None
    (guard,) = guards
    q = guard.args[0]
    no = substitute(p, {guard: ZERO})
    more = p - no
    if not all((guard, 1) in m for m in more.terms):
        return None
    both = add_all(product(m - {(guard, 1)}, c) for m, c in more.terms.items())
    lead = next(iter(q.terms))
    slope = Fraction(both.terms.get(lead, 0)) / q.terms[lead]
    below = Fraction(-no.terms.get(lead, 0)) / q.terms[lead]
    if both != q * slope or not 0 <= below <= slope or not slope:
        return None
    sides = ((q, slope - below), (-q, below))
    ramps = {frozenset({(atom("ramp", side), 1)}): c for side, c in sides}
    whole = Poly((no + q * below).terms | ramps)
    with without_facts():
        return product([(atom("group", whole), -1)]) if positive(whole) else None


def _inverse(p: Poly, anywhere: bool = False) -> Poly:
    size, powers, rest = factored(p)
    if not rest.terms:
        if anywhere:
            return ZERO
        raise Refused("division by 0")
    outside = product([(a, -e) for a, e in powers.items()], 1 / size)
    number = rest.number()
    if number is not None:
        return outside * (1 / Fraction(number))
    return outside * _inverse_of_rest(rest, anywhere)


def _inverse_of_rest(rest: Poly, anywhere: bool) -> Poly:
    term = rest.single()
    if term is not None:
        if not anywhere and not positive(rest) and not positive(-rest) and rest not in facts():
            raise Refused(f"division by {rest}, which is not known to differ from 0")
        result = poly(1 / Fraction(term[1]))
        for a, e in term[0]:
            one = poly(a) if a.boolean else _reciprocal_of(a, anywhere)
            result = result * (product([(a, -e)]) if a.sure else one ** int(e))
        return result
    with without_facts():
        for sign in (1, -1):
            if positive(rest * sign):
                return product([(atom("group", rest * sign), -1)], sign)
    raise Refused(f"division by {rest}, which is not known to differ from 0")


def _reciprocal_of(a: Atom, anywhere: bool) -> Poly:
    """Returns 1 / a, or 0 where a is 0. For ``sqrt(p)`` this is written as ``sqrt(p) / p``."""
    if a.kind == "sqrt":
        return poly(a) * _inverse(a.args[0], anywhere)
    return poly(atom("recip", a))


kinds["group"] = Kind(lambda p: p, ruled=True, sure=always, slope=lambda a: ONE)
kinds["ramp"] = Kind(
    lambda p: p * made("positive", p),
    ruled=True,
    nonnegative=always,
    slope=lambda a: made("positive", a.args[0]),
    kink="a maximum",
)
kinds["recip"] = Kind(
    reciprocal,
    ruled=True,
    nonnegative=lambda a: nonnegative(poly(a.args[0])),
    slope=lambda a: -(poly(a) ** 2),
    zeroed=True,
)
