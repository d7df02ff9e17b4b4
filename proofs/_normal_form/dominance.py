"""``D_j``: whether a class holds more than half of a sum of terms that are at least 0.

At most one class does: ``D_j D_l = [j = l] D_j``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .indices import delta
from .polynomial import ONE, Atom, Poly, poly, product
from .substitution import substitute
from .sums import opened, total


@dataclass(frozen=True)
class Dominance:
    """A sum, or sums in one another, with a dominance of their indices in the body."""

    atom: Atom
    body: Poly
    binders: tuple[Atom, ...]

    def at(self, places: tuple[Atom | int, ...]) -> Poly:
        """What a dominance at these places leaves of it, beside that dominance."""
        new: dict[Atom | int, Atom | int] = {}
        same = ONE
        for i, t in zip(self.atom.args[3], places, strict=True):
            if i in self.binders and i not in new:
                new[i] = t
            else:
                same = same * delta(new.get(i, i), t)
        result = substitute(self.body, {i: poly(t) for i, t in new.items()})  # type: ignore[misc]
        for i in self.binders:
            result = result if i in new else total(result, i)
        return result * same


def opened_dominance(a: Atom) -> Dominance | None:
    """A sum with the dominance of one of its indices, opened."""
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
