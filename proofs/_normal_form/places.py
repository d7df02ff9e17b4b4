"""Indices of an axis of size ``m s`` as ``q s + r``, with q below m and r below s.

An index t that is neither of such a form is ``div(t) s + mod(t)``, two atoms that are indices
too. A place with both beside each other holds t again, and a sum over t is one over q and r.
"""

from __future__ import annotations

from collections.abc import Mapping

from .indices import as_index, index_range, is_index
from .polynomial import ZERO, Atom, Monomial, Poly, Refused, atom, monomial_key, poly, product
from .signs import nonnegative, positive
from .substitution import rebuilds, substitute


def divided(p: Poly, s: Poly) -> tuple[Poly, Poly]:
    """Integers q and r with ``p = q s + r`` and ``0 <= r < s``."""
    high, low = _long_division(p, s)
    if nonnegative(low) and positive(s - low):
        return high, low
    t = as_index(low)
    if isinstance(t, Atom) and is_index(t):
        many, rest = _long_division(index_range(t), s)
        if not rest.terms:
            return high + atom("div", t, s, many), poly(atom("mod", t, s, many))
    raise Refused(f"the place {p} in rows of {s}")


def _long_division(p: Poly, s: Poly) -> tuple[Poly, Poly]:
    """``p = q s + r``, where no term of r is a multiple of the leading term of s."""
    lead = max(s.terms, key=lambda m: (_degree(m), monomial_key(m)))
    high = ZERO
    while True:
        for m, c in p.terms.items():
            over = product([*m, *((a, -e) for a, e in lead)], 1)
            ((n, _),) = over.terms.items()
            if c % s.terms[lead] == 0 and all(e > 0 for _, e in n):
                term = Poly({n: c // s.terms[lead]})
                high, p = high + term, p - term * s
                break
        else:
            return high, p


def _degree(m: Monomial) -> int:
    return sum(int(e) for _, e in m)


def equal_parts(t: Atom, u: Poly) -> tuple[Poly, Poly] | None:
    """What is 0 where an index t is u, if u is ``q s + r`` and t one of ``m s`` places."""
    for m in sorted(u.terms, key=monomial_key):
        inner = [a for a, _ in m if is_index(a)]
        beside: Monomial = frozenset((a, e) for a, e in m if a not in inner)
        c = u.terms[m]
        s = Poly({beside: c if c > 0 else -c})
        if not inner or s.number() == 1 or s == index_range(t):
            continue
        try:
            (q, r), (high, low) = divided(poly(t), s), divided(u, s)
        except Refused:
            continue
        return q - high, r - low
    return None


@rebuilds("div")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return divided(substitute(poly(a.args[0]), new), substitute(a.args[1], new))[0]


@rebuilds("mod")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return divided(substitute(poly(a.args[0]), new), substitute(a.args[1], new))[1]
