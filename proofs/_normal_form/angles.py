"""sin and cos: ``sin(-p) = -sin p`` and ``cos(-p) = cos p``.

In products ``sin² p`` is ``1 - cos² p``.
"""

from __future__ import annotations

from collections.abc import Mapping

from .cases import by_cases
from .polynomial import ONE, ZERO, Atom, Poly, atom, first_positive, poly
from .substitution import rebuilds, substitute


def sin(p: Poly) -> Poly:
    """The sine of a term."""
    return by_cases(_sin, p)


def cos(p: Poly) -> Poly:
    """The cosine of a term."""
    return by_cases(lambda q: poly(atom("cos", first_positive(q))) if q.terms else ONE, p)


def _sin(p: Poly) -> Poly:
    if not p.terms:
        return ZERO
    ordered = first_positive(p)
    return poly(atom("sin", ordered)) * (1 if ordered == p else -1)


@rebuilds("sin")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return sin(substitute(a.args[0], new))


@rebuilds("cos")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return cos(substitute(a.args[0], new))
