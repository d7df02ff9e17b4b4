"""Whether a term is 0."""

from __future__ import annotations

from .indices import fresh
from .kinks import usual
from .polynomial import Atom, Monomial, Number, Poly, Refused, add_all, poly
from .quotients import together
from .remainders import reduced
from .substitution import substitute


def vanishes(p: Poly) -> bool:
    """Whether a term is 0 everywhere, or off kinks. True is a proof; False says nothing."""
    p = usual(p)
    if not p.terms:
        return True
    numerator, _ = together(p)
    if not numerator.terms or not _merged(numerator).terms:
        return True
    try:
        other, _ = together(reduced(numerator))
    except Refused:  # It says no more than that this way does not decide it.
        return False
    return other != numerator and (not other.terms or not _merged(other).terms)


def _merged(p: Poly) -> Poly:
    """Sums with the same factor beside them, dropped where their bodies together vanish."""
    groups: dict[tuple[Monomial, Poly], list[tuple[Monomial, Number, Atom]]] = {}
    for m, c in p.terms.items():
        for a, e in m:
            if a.kind == "sum" and e == 1:
                beside = frozenset(m - {(a, e)})
                groups.setdefault((beside, a.args[0].args[1]), []).append((m, c, a))
    for (_, dim), members in sorted(groups.items(), key=lambda g: -len(g[1])):
        here = [(m, c, a) for m, c, a in members if m in p.terms]
        if len(here) < 2:
            continue
        i = fresh(dim)
        body = add_all(substitute(a.args[1], {a.args[0]: poly(i)}) * c for _, c, a in here)
        if vanishes(body):
            gone = {m for m, _, _ in here}
            p = Poly({m: c for m, c in p.terms.items() if m not in gone})
    return p
