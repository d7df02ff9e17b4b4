"""Odd functions with a derivative everywhere, of which no more is known.

Their derivatives are terms without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from .cases import by_cases
from .exponentials import exp
from .polynomial import ZERO, Atom, Poly, atom, first_positive, poly, product
from .quotients import inverse
from .substitution import rebuilds, substitute

PI = atom("pi")


def erf(p: Poly) -> Poly:
    """The error function: its slope is ``2 exp(-p²) / sqrt(pi)``."""
    return by_cases(lambda q: _odd("erf", q), p)


def atan(p: Poly) -> Poly:
    """The inverse of the tangent: its slope is ``1 / (1 + p²)``."""
    return by_cases(lambda q: _odd("atan", q), p)


def _odd(kind: str, p: Poly) -> Poly:
    if not p.terms:
        return ZERO
    ordered = first_positive(p)
    return poly(atom(kind, ordered)) * (1 if ordered == p else -1)


def slope(a: Atom) -> Poly:
    """The derivative of such an atom to its argument."""
    (p,) = a.args
    if a.kind == "atan":
        return inverse(1 + p * p)
    return 2 * exp(-p * p) * product([(PI, Fraction(-1, 2))])


@rebuilds("erf")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return erf(substitute(a.args[0], new))


@rebuilds("atan")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return atan(substitute(a.args[0], new))
