"""Makes entries, indices and dimensions, and replaces atoms inside terms.

Arrays are treated as if they had an entry for every integer, so that ``x[j - 1]`` is a term at
j = 0 too. A program has entries out of range only times 0, and a statement that is proved for all
arrays without an end is true for arrays with one.

A permutation p of n numbers has an inverse ``p^-1``: for t and j in its range, ``p(t) = j`` where
``t = p^-1(j)``. With it, a delta is solved for an index inside a permutation. So ``p(i) = p(j)`` is
simplified to ``i = j``, and ``sum_i [p(i) = j] h(i)`` to one term. For t out of the range, ``p(t)``
may be any index.

After an atom is replaced, the term around it is normalised again. No replacement captures a bound
index, because the index of a sum has a name that nothing else uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from .state import facts, remembered
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Monomial,
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


@dataclass(frozen=True, repr=False)
class Symbol:
    """An argument: its name, the kind of its entries and, if these are labels, their bound."""

    name: str
    sort: str  # real, positive, nonnegative, unit (in (0, 1)), boolean, index, integer
    dim: Poly | None = None
    keeps: Symbol | None = None  # for a mask: the labels at which it is 1
    kept: Symbol | None = None  # 1 in the rows to which ``keeps`` applies; None for all rows
    meaning: Callable[..., Poly] | None = None  # if this names a term: returns the term at places
    exponent: int = 0  # 1 for a permutation, -1 for its inverse, 0 for anything else

    @property
    def inverse(self) -> Symbol:
        """The inverse of a permutation."""
        return replace(self, exponent=-self.exponent)

    @property
    def mark(self) -> tuple[Atom, ...]:
        """The extra last place that entries of a symbol with a ``meaning`` have, or () for others.

        With 0 as its last place, an entry is the term that the meaning gives.
        """
        return () if self.meaning is None else (index(self.name, ONE),)

    def __repr__(self) -> str:
        return self.name if self.exponent >= 0 else f"{self.name}^-1"


def entry(symbol: Symbol, *indices: Atom | int) -> Poly:
    """Returns an entry of an argument as a term.

    It is t for ``p^-1(p(t))``, and 1 for a mask at a label that the mask keeps in every row.
    """
    if symbol.meaning is not None and indices[-1] == 0:
        return symbol.meaning(indices[:-1])
    if symbol.exponent and permuted(indices[0]) and indices[0].args[0] == symbol.inverse:
        return poly(indices[0].args[1][0])
    made = atom("entry", symbol, tuple(indices))
    return ONE if symbol.kept is None and at_kept_label(made) else poly(made)


def at_kept_label(a: Atom) -> bool:
    """Returns whether an entry is that of a mask at the label that the mask keeps in the row."""
    symbol, indices = a.args
    return symbol.keeps is not None and indices[-1] is label_of(a)


def label_of(a: Atom) -> Atom:
    """Returns the label that a mask keeps in the row of its entry a."""
    return atom("entry", a.args[0].keeps, a.args[1][:-1])


def row_kept(a: Atom) -> Atom | None:
    """Returns the 0-1 entry that says whether the mask of the entry a keeps the label in its row.

    Returns None if a is not an entry of a mask at its label, or if the mask keeps it in every row.
    """
    if a.kind != "entry" or a.args[0].kept is None or not at_kept_label(a):
        return None
    return atom("entry", a.args[0].kept, a.args[1][:-1])


def index(name: Any, dim: Poly) -> Atom:
    """Returns the index of this name that runs from 0 to ``dim - 1``."""
    return atom("index", name, dim)


_names = itertools.count()


def fresh(dim: Poly) -> Atom:
    """Returns an index from 0 to ``dim - 1`` with a name that no index had before."""
    return index(f"_{next(_names)}", dim)


def unused(dim: Poly, *terms: Poly) -> Atom:
    """Returns the first index ``_0_``, ``_1_``, ... that is not free in these terms or the facts.

    Equal calls return the same index, so that results computed with it can be remembered.
    """
    there = frozenset().union(*(p.free() for p in (*terms, *facts())))
    return next(i for n in itertools.count() if (i := index(f"_{n}_", dim)) not in there)


def is_index(t: Atom) -> bool:
    """Returns whether an atom is an index, a quotient or a remainder of one, or a label."""
    return t.values is not None


def of_size(atoms: Iterable[Atom], dim: Poly) -> list[Atom]:
    """Returns those of the atoms that are indices or labels from 0 to ``dim - 1``, sorted."""
    return sorted({t for t in atoms if t.values == dim}, key=lambda t: t.key)


def lowest(p: Poly) -> Number | None:
    """Returns the least value of a polynomial in dimensions, or None if any is subtracted."""
    low: Number = 0
    for m, c in p.terms.items():
        if c < 0 and m:
            return None
        least: Number = 1
        for a, e in m:
            least *= a.args[1] ** e if a.kind == "dim" and e > 0 else 0
        low += c * least
    return low


def least_size(dim: Poly) -> Number:
    """Returns the least value that a size can have, or 0 if that is not known."""
    return max(lowest(dim) or 0, 0)


def within(t: Atom | int, dim: Poly) -> Poly:
    """Returns ``[0 <= t < dim]``, which is 1 or 0 as a term."""
    if (0 <= t < least_size(dim)) if isinstance(t, int) else t.values == dim:
        return ONE
    return made("positive", poly(t) + 1) * made("positive", dim - poly(t))


def permuted(t: Atom | int) -> TypeGuard[Atom]:
    """Returns whether t is ``p(u)`` for a permutation p and a u that is certain to be in range."""
    if not isinstance(t, Atom) or t.kind != "entry" or not t.args[0].exponent:
        return False
    return within(t.args[1][0], t.args[0].dim) == ONE


def delta(a: Atom | int, b: Atom | int) -> Poly:
    """Returns ``[a = b]``, which is 1 where two places are equal and otherwise 0."""
    if a is b or a == b:
        return ONE
    if isinstance(a, int) and isinstance(b, int):
        return ZERO
    if any(isinstance(t, Atom) and (t.kind == "place" or permuted(t)) for t in (a, b)):
        return made("zero", poly(a) - poly(b))
    if isinstance(a, int) or (isinstance(b, Atom) and elimination(b) < elimination(a)):
        a, b = b, a
    return delta_solved(a, b)  # type: ignore[arg-type]


def delta_solved(i: Atom, t: Atom | int) -> Poly:
    """Returns ``[i = t]`` as an atom with i first, or 0 for an integer t that is out of range."""
    size = i.values.number()
    if isinstance(t, int) and (t < 0 or (size is not None and t >= size)):
        return ZERO
    return poly(atom("delta", i, t))


def elimination(t: Atom) -> tuple:
    """Returns a key that sorts atoms in the order in which an equation is solved for them.

    Plain indices come first, then labels, then entries of permutations.
    """
    return t.kind != "index", permuted(t), t.key


def as_index(p: Poly) -> Atom | int:
    """Returns a term as an index, a label or an integer, or as a ``place`` if it is a sum of these.

    Raises ``Refused`` for other terms.
    """
    number = p.number()
    if number is not None and number == int(number):
        return int(number)
    power = p.power()
    if power is not None and power[1:] == (1, 1) and is_index(power[0]):
        return power[0]
    if not all(c == int(c) and _linear(m) for m, c in p.terms.items()):
        raise Refused(f"an index that is not read: {p}")
    whole = _put_together(p)
    return atom("place", p) if whole is None else as_index(whole)


def _put_together(p: Poly) -> Poly | None:
    """Returns p with ``div(t) s + mod(t)`` in it replaced by t, or None if p has no such part."""
    for m, c in p.terms.items():
        for r in (a for a, _ in m if a.kind == "mod"):
            t, s, many = r.args
            beside = product([*m, (r, -1)], c)
            quotient = beside * s * atom("div", t, s, many)
            if all(p.terms.get(n) == d for n, d in quotient.terms.items()):
                return p - quotient + beside * (poly(t) - r)
    return None


def _linear(m: Monomial) -> bool:
    """Returns whether a monomial is a product of dimensions and at most one index."""
    places = [e for a, e in m if is_index(a)]
    sizes = [e for a, e in m if a.kind == "dim"]
    return places in ([], [1]) and len(places) + len(sizes) == len(m) and min([1, *sizes]) > 0


def solved(p: Poly, i: Atom) -> Poly | None:
    """Returns the i for which ``p = 0``, or None unless p is i or -i plus a term without i."""
    c = p.terms.get(frozenset({(i, 1)}))
    if c not in (1, -1):
        return None
    rest = p - poly(i) * c
    return None if i in rest.inside() else rest * -c


def solved_in_permutations(p: Poly, i: Atom) -> tuple[Poly, Poly] | None:
    """Returns t and a 0-1 term b with ``[p = 0] = b [i = t]``, or None if it finds none.

    The index may be inside a permutation q: ``q(i) = u`` if u is in range and i is ``q^-1(u)``.
    """
    for a in (a for a in p.atoms() if a is not i and i in a.inside and permuted(a)):
        rest = solved(p, a)
        if rest is not None and i not in rest.inside():
            (symbol, (argument,)), t = a.args, as_index(rest)
            found = solved_in_permutations(poly(argument) - entry(symbol.inverse, t), i)
            return found and (found[0], found[1] * within(t, symbol.dim))
    place = solved(p, i)
    return None if place is None else (place, ONE)


def same_place(here: Iterable[Atom | int], there: Iterable[Atom | int]) -> Poly:
    """Returns 1 where two entries of an argument have the same places, and otherwise 0."""
    result = ONE
    for i, j in zip(here, there, strict=True):
        result = result * delta(i, j)
    return result


def substitute(p: Poly, new: Mapping[Atom, Poly]) -> Poly:
    """Returns p with atoms replaced, all at once and at every depth, and normalised again."""
    keys = frozenset(new)
    if not keys & p.inside():
        return p
    parts = []
    for m, c in p.terms.items():
        part = product(((a, e) for a, e in m if not keys & a.inside), c)
        for a, e in m:
            if keys & a.inside:
                part = part * made("sqrt", _replaced(a, new), e)  # calls ``power_of``
        parts.append(part)
    return add_all(parts)


def _replaced(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    if a in new:
        return new[a]
    return _rebuilt(a, frozenset((b, p) for b, p in new.items() if b in a.inside))


@remembered
def _rebuilt(a: Atom, new: frozenset[tuple[Atom, Poly]]) -> Poly:
    there = dict(new)
    if a.of.rebuild is not None:
        return a.of.rebuild(a, there)
    return made(a.kind, *(_part(part, there) for part in a.args))


def _part(part: Any, new: Mapping[Atom, Poly]) -> Any:
    """Returns an argument of an atom, with atoms replaced in it, for ``made``.

    An atom becomes a term, and a tuple of places becomes another tuple of places.
    """
    if isinstance(part, tuple):
        return tuple(index_in(t, new) for t in part)
    return substitute(poly(part), new) if isinstance(part, Atom | Poly) else part


def index_in(t: Atom | int, new: Mapping[Atom, Poly]) -> Atom | int:
    """Returns a place with atoms replaced in it."""
    return t if isinstance(t, int) else as_index(substitute(poly(t), new))


kinds["dim"] = Kind(text=lambda name, _: name, sure=always, integral=always)
kinds["index"] = Kind(
    lambda name, dim: poly(index(name, dim)),
    text=lambda name, dim: f"{name}<{dim}",
    values=lambda a: a.args[1],
    integral=always,
    nonnegative=always,
)
kinds["entry"] = Kind(
    lambda symbol, places: entry(symbol, *places),
    text=lambda symbol, places: f"{symbol}{list(places)}",
    boolean=lambda a: a.args[0].sort == "boolean",
    sure=lambda a: a.args[0].sort in {"positive", "unit"},
    values=lambda a: a.args[0].dim if a.args[0].sort == "index" else None,
    integral=lambda a: a.args[0].sort in {"index", "integer"},
    nonnegative=lambda a: a.args[0].sort in {"nonnegative", "index"},
)
kinds["place"] = Kind(text=repr)
kinds["delta"] = Kind(lambda a, b: delta(as_index(poly(a)), as_index(poly(b))), boolean=always)
