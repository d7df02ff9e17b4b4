"""Atoms replaced inside terms.

Whatever is put in is normalised afresh, and what a sum binds has no name that anybody
else uses: nothing can be captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .facts import remembered
from .indices import as_index, delta, entry, index
from .polynomial import Atom, Poly, add_all, atom, poly, product

_rebuild: dict[str, Callable[..., Poly]] = {}


def rebuilds(kind: str) -> Callable[[Callable[..., Poly]], Callable[..., Poly]]:
    """Registers how an atom of a kind, or a power, is made anew from its changed parts."""

    def register(function: Callable[..., Poly]) -> Callable[..., Poly]:
        _rebuild[kind] = function
        return function

    return register


def rebuilt(kind: str, *args: Poly) -> Poly:
    """An atom of a kind, as a file makes it that stands on the one that asks."""
    return _rebuild[kind](atom(kind, *args), {})


def substitute(p: Poly, new: Mapping[Atom, Poly]) -> Poly:
    """Atoms replaced, all at once, at every depth; everything else is normalised again."""
    keys = frozenset(new)
    if not keys & p.inside():
        return p
    parts = []
    for m, c in p.terms.items():
        part = product(((a, e) for a, e in m if not keys & a.inside), c)
        for a, e in m:
            if keys & a.inside:
                part = part * _rebuild["power"](_replaced(a, new), e)
        parts.append(part)
    return add_all(parts)


def _replaced(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    if a in new:
        return new[a]
    return _rebuilt(a, frozenset((b, p) for b, p in new.items() if b in a.inside))


@remembered
def _rebuilt(a: Atom, new: frozenset[tuple[Atom, Poly]]) -> Poly:
    return _rebuild[a.kind](a, dict(new))


@rebuilds("index")
def _index(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return poly(index(a.args[0], substitute(a.args[1], new)))


@rebuilds("entry")
def _entry(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return entry(a.args[0], *(_index_in(t, new) for t in a.args[1]))


def _index_in(t: Atom | int, new: Mapping[Atom, Poly]) -> Atom | int:
    return t if isinstance(t, int) else as_index(substitute(poly(t), new))


@rebuilds("delta")
def _delta(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return delta(*(_index_in(t, new) for t in a.args))


@rebuilds("dim")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return poly(a)
