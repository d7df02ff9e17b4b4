"""Functions of terms with atoms b that are 0 or 1, taken in each case.

``f(b) = b f(1) + (1 - b) f(0)``, so that no guard remains inside.
"""

from __future__ import annotations

from collections.abc import Callable

from .facts import knowing
from .indices import at_kept_label, row_kept
from .known import known_where_zero
from .polynomial import ONE, ZERO, Atom, Poly, Refused, poly
from .substitution import substitute

_MAX_GUARDS = 10


def by_cases(f: Callable[..., Poly], *parts: Poly, weight: Poly = ONE, depth: int = 0) -> Poly:
    """f of terms, for each case of their 0-1 atoms; impossible cases are left out."""
    guards = {a for p in parts for a in p.atoms() if a.boolean}
    if not guards:
        return f(*parts)
    if depth == _MAX_GUARDS:
        raise Refused("a function of too many guards")
    guard = min(guards, key=lambda a: (a.kind != "entry", a.key))
    yes = weight * poly(guard)
    no = weight - yes
    result = ZERO
    if yes.terms:
        with knowing(poly(guard)):
            here = [given(p, guard) for p in parts]
            result = poly(guard) * by_cases(f, *here, weight=yes, depth=depth + 1)
    if no.terms:
        absent = guard.args[0] if guard.kind == "zero" else ONE
        with knowing(absent):
            here = [substitute(p, {guard: ZERO}) for p in parts]
            branch = by_cases(f, *here, weight=no, depth=depth + 1)
        result = result + branch - poly(guard) * branch
    return result


def given(p: Poly, guard: Atom) -> Poly:
    """A term where a 0-1 atom is 1."""
    p = substitute(p, {guard: ONE})
    if guard.kind == "delta" and not _inside(guard.args[0], guard.args[1]):
        return substitute(p, {guard.args[0]: poly(guard.args[1])})
    if guard.kind == "zero":
        return substitute(p, known_where_zero(guard, p.atoms()))
    if guard.kind == "entry":
        masks = [a for a in p.inside() if a.kind == "entry" and a.args[0].kept]
        known = {a: ONE for a in masks if at_kept_label(a) and row_kept(a) is guard}
        return substitute(p, known)
    return p


def _inside(a: Atom, b: Atom | int) -> bool:
    return isinstance(b, Atom) and a in b.inside
