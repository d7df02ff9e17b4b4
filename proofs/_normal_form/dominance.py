"""Compares one term of a sum with half of that sum.

``D_j`` is 1 if term j is more than half of a sum of terms that are at least 0, and otherwise 0. It
is 1 for at most one j, so ``D_j D_l = [j = l] D_j``. Any share above a half works in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from .bounds import instances
from .indices import delta, fresh, index_in, substitute
from .signs import nonnegative, positive
from .state import facts
from .sums import bind_all, opened, peek, total
from .terms import ONE, Atom, Kind, Number, Poly, always, atom, kinds, made, poly, product


@dataclass(frozen=True)
class Dominance:
    """A sum over ``binders`` of ``body``, in which ``atom`` is a D at some of these indices."""

    atom: Atom
    body: Poly
    binders: tuple[Atom, ...]

    def at(self, places: tuple[Atom | int, ...]) -> Poly:
        """Returns the value of the sum where D is 1 at these places, and so 0 at all others."""
        new: dict[Atom | int, Atom | int] = {}
        same = ONE
        for i, t in zip(self.atom.args[3], places, strict=True):
            if i in self.binders and i not in new:
                new[i] = t
            else:
                same = same * delta(new.get(i, i), t)
        result = substitute(self.body, {i: poly(t) for i, t in new.items()})  # type: ignore[misc]
        return total(result, *(i for i in self.binders if i not in new)) * same


def opened_dominance(a: Atom) -> Dominance | None:
    """Returns a sum with a D at its index as a ``Dominance`` with new indices, or None."""
    if not any(b.kind == "dominant" and a.args[0] in b.args[3] for b in a.inside):
        return None
    i, body = opened(a)
    ((m, c),) = body.terms.items()
    for b, e in m:
        if b.kind == "dominant" and i in b.args[3]:
            return Dominance(b, body, (i,))
        inner = opened_dominance(b) if b.kind == "sum" and e == 1 else None
        if inner is not None and i in inner.atom.args[3]:
            rest = product(((f, n) for f, n in m if f is not b), c)
            return Dominance(inner.atom, rest * inner.body, (i, *inner.binders))
    return None


def dominance(p: Poly) -> Poly | None:
    """Returns ``[p > 0]`` as a D if p is ``c a_t - d sum_j a_j``, for a >= 0 and ``d / c >= 1/2``.

    Returns None for another p.
    """
    if len(p.terms) != 2:
        return None
    for m, c in p.terms.items():
        ((n, d),) = (t for t in p.terms.items() if t[0] != m)
        if c < 0 or d > 0 or -d / Fraction(c) < Fraction(1, 2):
            continue
        for a, e in n:
            if a.kind == "sum" and e == 1 and nonnegative(peek(a)):
                kept = product((b, f) for b, f in n if b is not a)
                for binders, body, places, there in instances(a, m) if positive(kept) else ():
                    guards, rest = _without_known(there)
                    if kept * rest == Poly({m: 1}):
                        return guards * _dominant(binders, body, -d / Fraction(c), places)
    return None


def _dominant(
    binders: tuple[Atom, ...], body: Poly, threshold: Number, places: tuple[Atom | int, ...]
) -> Poly:
    names, (inner,) = bind_all(binders, body)
    return poly(atom("dominant", names, inner, threshold, places, binders=names))


def _without_known(p: Poly) -> tuple[Poly, Poly]:
    """Returns the 0-1 atoms of a term that are known to be 1, and the term without them."""
    known = sorted((b for b in p.atoms() if b.boolean and poly(b) in facts()), key=lambda b: b.key)
    return product((b, 1) for b in known), substitute(p, dict.fromkeys(known, ONE))


def _rebuilt(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    names, body, threshold, t = a.args
    binders = tuple(fresh(substitute(name.args[1], new)) for name in names)
    opening = {name: poly(i) for name, i in zip(names, binders, strict=True)}
    inner = substitute(body, {**new, **opening})
    places = tuple(index_in(p, new) for p in t)
    term = inner.single()
    if term is not None and term[1] == 1 and set(binders) <= inner.free():
        return _dominant(binders, inner, threshold, places)
    there = {i: poly(p) for i, p in zip(binders, places, strict=True)}
    return made("positive", substitute(inner, there) - threshold * total(inner, *binders))


kinds["dominant"] = Kind(rebuild=_rebuilt, boolean=always, kink="a comparison with half a sum")
